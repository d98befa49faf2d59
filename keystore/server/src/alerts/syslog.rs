//! Each line to the local syslog, as RFC 3164 datagrams.

use tokio::net::UnixDatagram;

use super::{DeliveryError, Message};

const SOCKET: &str = "/dev/log";
/// Facility 10 (security and authorisation), severity 5 (notice).
const PRIORITY: u8 = 10 * 8 + 5;

pub(super) struct SyslogSink;

impl SyslogSink {
    pub(super) async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        let Some(line) = &message.line else {
            return Ok(());
        };
        let json = String::from_utf8_lossy(&line.to_bytes()).into_owned();
        let text = format!("<{PRIORITY}>holdfast-keystore: {json}");
        let send = async {
            // Opened each time: the syslog service may have been started again.
            let socket = UnixDatagram::unbound()?;
            socket.send_to(text.as_bytes(), SOCKET).await
        };
        send.await
            .map(drop)
            .map_err(|error| DeliveryError(format!("{SOCKET}: {error}")))
    }
}
