# SeaweedFS for the demo. Sourced by demo.sh, which has $weed, $demo, start and wait_for.

# A port that nobody listens on; the server uses the one 10,000 above, too.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        for try in "$port" $((port + 10000)); do
            if (: <"/dev/tcp/127.0.0.1/$try") 2>/dev/null; then continue 2; fi
        done
        echo "$port"
        return
    done
}

start_bucket() {
    local s3 master volume filer secret
    s3=$(free_port) master=$(free_port) volume=$(free_port) filer=$(free_port)
    secret=$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')
    mkdir "$demo/bucket"
    cat >"$demo/bucket.json" <<JSON
{"identities": [{"name": "keystore", "credentials": [{"accessKey": "keystore", "secretKey": "$secret"}],
  "actions": ["Admin", "Read", "Write", "List"]}]}
JSON
    cat >"$demo/store.credentials" <<CREDENTIALS
[default]
aws_access_key_id = keystore
aws_secret_access_key = $secret
CREDENTIALS
    cat >"$demo/store.toml" <<CONFIG
[store]
s3 = "s3://holdfast/archives"
endpoint = "http://127.0.0.1:$s3"
region = "us-east-1"
CONFIG
    start bucket "$weed" server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir="$demo/bucket" -volume.max=100 \
        -master.volumeSizeLimitMB=256 -master.port="$master" -volume.port="$volume" -filer.port="$filer" \
        -s3 -s3.port="$s3" -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$demo/bucket.json"
    wait_for bucket make_bucket "$s3"
    # The keystore alone has the credentials.
    export AWS_SHARED_CREDENTIALS_FILE=$demo/store.credentials
    echo "   http://127.0.0.1:$s3, bucket holdfast"
}

# By a signed request, as the keystore makes them; the credentials come from a file, not as arguments.
make_bucket() {
    printf 'user = "keystore:%s"\n' "$(sed -n 's/^aws_secret_access_key = //p' "$demo/store.credentials")" |
        curl --config - --silent --fail --max-time 10 --aws-sigv4 aws:amz:us-east-1:s3 --request PUT "http://127.0.0.1:$1/holdfast"
}
