//! Every call, with its message and its answer.

use std::time::Duration;

use hyper::Method;
use serde::de::IgnoredAny;
use url::form_urlencoded;

use holdfast_protocol::calls::{
    Account, AccountRequest, Authorise, BeginEnrolment, CertificateRequest, DeviceCertificate,
    DeviceHalf, DeviceList, DeviceReady, DeviceState, EnrolmentBegun, EnrolmentPassword,
    EnrolmentRequest, Grants, Listing, PasswordChange, PolicyDocument, PutSlots, Slots,
    StoreDescription, Watched, Wishes,
};
use holdfast_protocol::names::HexBytes;

use crate::client::{Client, question};
use crate::error::ClientError;

/// `device/watch` answers after at most 25 s.
const WATCH_TIME: Duration = Duration::from_secs(40);

/// Without a certificate.
impl Client {
    /// `POST enrol/begin`: step 1.
    pub async fn enrol_begin(&self, body: &BeginEnrolment) -> Result<EnrolmentBegun, ClientError> {
        self.post("/v1/enrol/begin", body).await
    }

    /// `POST enrol/password`: step 1.
    pub async fn enrol_password(&self, body: &EnrolmentPassword) -> Result<(), ClientError> {
        self.tell("/v1/enrol/password", body).await
    }

    /// `POST enrol/certificate`: steps 2 to 5.
    pub async fn enrol_certificate(
        &self,
        body: &EnrolmentRequest,
    ) -> Result<DeviceCertificate, ClientError> {
        self.post("/v1/enrol/certificate", body).await
    }
}

/// Of a provisional device too.
impl Client {
    /// `POST enrol/account`: step 6.
    pub async fn enrol_account(&self) -> Result<Account, ClientError> {
        self.post("/v1/enrol/account", &AccountRequest {}).await
    }

    /// `POST enrol/authorise`: step 8.
    pub async fn enrol_authorise(&self, body: &Authorise) -> Result<(), ClientError> {
        self.tell("/v1/enrol/authorise", body).await
    }

    /// `POST enrol/stored`: step 9.
    pub async fn enrol_stored(&self) -> Result<(), ClientError> {
        self.tell("/v1/enrol/stored", &AccountRequest {}).await
    }

    /// `GET slots`: the release of the key's record.
    pub async fn slots(&self) -> Result<Slots, ClientError> {
        self.get("/v1/slots").await
    }

    /// `PUT slots`: by compare-and-swap on the version in the record.
    pub async fn put_slots(&self, body: &PutSlots) -> Result<(), ClientError> {
        let put = question(Method::PUT, "/v1/slots", Some(body));
        self.call::<IgnoredAny>(put).await.map(drop)
    }

    /// `GET device/half`: the server's half of the local key file.
    pub async fn device_half(&self) -> Result<DeviceHalf, ClientError> {
        self.get("/v1/device/half").await
    }

    /// `GET policy`: the recovery admins, as they are or as they were at a version.
    pub async fn policy(&self, version: Option<u64>) -> Result<PolicyDocument, ClientError> {
        match version {
            Some(version) => self.get(&format!("/v1/policy?version={version}")).await,
            None => self.get("/v1/policy").await,
        }
    }

    /// `POST device/ready`: the end of a login.
    pub async fn device_ready(&self, body: &DeviceReady) -> Result<(), ClientError> {
        self.tell("/v1/device/ready", body).await
    }
}

/// Of an active device.
impl Client {
    /// `POST device/certificate`: a new one for the same device.
    pub async fn device_certificate(
        &self,
        request: String,
    ) -> Result<DeviceCertificate, ClientError> {
        let body = CertificateRequest { request };
        self.post("/v1/device/certificate", &body).await
    }

    /// `GET devices`: the user's own.
    pub async fn devices(&self) -> Result<DeviceList, ClientError> {
        self.get("/v1/devices").await
    }

    /// `POST devices/{id}/deauthorise`
    pub async fn deauthorise_device(&self, device: HexBytes<8>) -> Result<(), ClientError> {
        self.tell_nothing(&format!("/v1/devices/{device}/deauthorise"))
            .await
    }

    /// `POST password/finish`; before it comes [`crate::LoginConnection::start_password_change`].
    pub async fn finish_password_change(&self, body: &PasswordChange) -> Result<(), ClientError> {
        self.tell("/v1/password/finish", body).await
    }
}

/// Of a deauthorised device too.
impl Client {
    /// `GET device/watch`: waits up to 25 s for another state than the one that was seen.
    pub async fn watch_device(&self, seen: DeviceState) -> Result<Watched, ClientError> {
        let name = serde_json::to_value(seen).expect("a plain name");
        let path = format!("/v1/device/watch?{}", query(&[("seen", name.as_str())]));
        let mut watch = question(Method::GET, &path, None::<&()>);
        watch.within = WATCH_TIME;
        self.call(watch).await
    }

    /// `POST device/confirm`: key and memory are wiped, the drive is unmounted.
    pub async fn confirm_wiped(&self) -> Result<(), ClientError> {
        self.tell_nothing("/v1/device/confirm").await
    }
}

/// The store.
impl Client {
    /// `POST grants`: 1 to 256 wishes.
    pub async fn grants(&self, wishes: &Wishes) -> Result<Grants, ClientError> {
        self.post("/v1/grants", wishes).await
    }

    /// `GET objects`: one page of a folder, by name; `after` is where the last page ended.
    pub async fn objects(&self, folder: &str, after: Option<&str>) -> Result<Listing, ClientError> {
        let query = query(&[("folder", Some(folder)), ("after", after)]);
        self.get(&format!("/v1/objects?{query}")).await
    }

    /// `GET store`
    pub async fn store(&self) -> Result<StoreDescription, ClientError> {
        self.get("/v1/store").await
    }
}

impl Client {
    /// A call whose answer says nothing but that it was done.
    async fn tell(&self, path: &str, body: &impl serde::Serialize) -> Result<(), ClientError> {
        self.post::<IgnoredAny>(path, body).await.map(drop)
    }

    async fn tell_nothing(&self, path: &str) -> Result<(), ClientError> {
        let told = question(Method::POST, path, None::<&()>);
        self.call::<IgnoredAny>(told).await.map(drop)
    }
}

fn query(parts: &[(&str, Option<&str>)]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parts {
        if let Some(value) = value {
            text.append_pair(name, value);
        }
    }
    text.finish()
}
