//! What a holder keeps stands in no file of the server.

use std::fs;

use holdfast_keystore::api::unseal::Nothing;
use reqwest::Method;

use crate::support::{Share, TestServer, files, submit};

/// The 32 secret bytes of a printed share, as the server could have written them.
fn spellings(share: &Share) -> Vec<Vec<u8>> {
    let plain = share.text.replace('-', "");
    let secret = secret_bytes(&plain);
    vec![
        share.text.clone().into_bytes(),
        plain.to_uppercase().into_bytes(),
        plain[30..60].to_owned().into_bytes(),
        secret.clone(),
        hex::encode(&secret).into_bytes(),
        hex::encode_upper(&secret).into_bytes(),
        base64(&secret).into_bytes(),
    ]
}

/// Without the twelve bytes of the label.
fn secret_bytes(plain: &str) -> Vec<u8> {
    const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let values = plain[4..plain.len() - 6]
        .chars()
        .map(|c| ALPHABET.find(c).unwrap());
    let mut bits = Vec::new();
    for value in values {
        bits.extend((0..5).rev().map(|bit| value >> bit & 1));
    }
    let byte = |bits: &[usize]| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8);
    bits.chunks_exact(8).map(byte).skip(12).collect()
}

/// Without what depends on the bytes around it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks_exact(3) {
        let value = three
            .iter()
            .fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        text.extend([18, 12, 6, 0].map(|shift| char::from(ALPHABET[value >> shift & 63])));
    }
    text
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// After init, good and refused submissions, a reshare, rotation, a snapshot and the end.
#[tokio::test(flavor = "multi_thread")]
async fn no_share_is_in_any_file() {
    use holdfast_keystore::api::reshare::ReshareStarted;
    let (mut server, holders, first) = TestServer::initialised(|_| {}).await;
    let ceremony = server.start_unseal().await;
    let alice = server.client(&holders[0]);
    assert!(
        submit(&alice, "unseal", &ceremony, &first[1].text)
            .await
            .is_err()
    );
    for place in [0, 1, 2] {
        let holder = server.client(&holders[place]);
        submit(&holder, "unseal", &ceremony, &first[place].text)
            .await
            .unwrap();
    }
    let operator = server.operator();
    let wanted = crate::support::init_request(3, &crate::support::HOLDERS);
    let started: ReshareStarted = operator.post("/v1/reshare/start", &wanted).await.unwrap();
    let second = crate::support::shares(started.shares);
    let agreeing = holders.iter().zip(&first).take(3);
    for (holder, share) in agreeing.chain(holders.iter().zip(&second)) {
        submit(
            &server.client(holder),
            "reshare",
            &started.ceremony,
            &share.text,
        )
        .await
        .unwrap();
    }
    operator
        .post::<serde_json::Value>("/v1/rotate/data-key", &Nothing {})
        .await
        .unwrap();
    let request = operator.request(Method::GET, "/v1/snapshot");
    let snapshot = operator.send(request).await.unwrap().bytes().await.unwrap();
    fs::write(server.data().join("copy.snapshot"), &snapshot).unwrap();
    server.stop().await;
    let files = files(&server.data());
    assert!(files.len() >= 8, "{files:?}");
    // The search finds what is there.
    let planted = spellings(&first[0]).concat();
    assert!(
        spellings(&first[0])
            .iter()
            .all(|spelling| holds(&planted, spelling))
    );
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for spelling in first.iter().chain(&second).flat_map(spellings) {
            assert!(
                !holds(&bytes, &spelling),
                "a share stands in {}",
                file.display()
            );
        }
    }
}
