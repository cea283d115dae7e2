//! Tokens for a client that nobody polls and that can therefore not ask for them.
//!
//! The client crate hands a token over only while it polls the client's main queue, which it never does
//! for an administrative client. Here the client library is given the token by its own call.

use std::ffi::{CStr, CString, NulError};
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::bindings::rd_kafka_oauthbearer_set_token;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::types::RDKafkaRespErr;

use super::Tokens;
use crate::base::now_millis;
use crate::broker::error::BrokerError;

/// The part of its life, in percent, that a token may have left and is still good for another request.
const LEFT: i64 = 20;
/// Room for what the client library says of a token that it refuses.
const REASON: usize = 512;

/// Where one client's tokens come from, and until when the one that it has is good.
pub(in crate::broker) struct Handed {
    tokens: Arc<Tokens>,
    good_until: Mutex<i64>,
}

impl Handed {
    pub(in crate::broker) fn new(tokens: Arc<Tokens>) -> Self {
        Self { tokens, good_until: Mutex::new(i64::MIN) }
    }

    /// Gives `client` another token unless the one that it has is good for a while.
    ///
    /// # Errors
    /// [`BrokerError::Denied`] where there is no token, or none that the client takes.
    pub(in crate::broker) fn renew(&self, client: &Client<impl ClientContext>) -> Result<(), BrokerError> {
        let mut good_until = self.good_until.lock();
        let now = now_millis();
        if now < *good_until {
            return Ok(());
        }
        let token = self.tokens.token().map_err(BrokerError::Denied)?;
        let ends = token.lifetime_ms;
        give(client, token).map_err(BrokerError::Denied)?;
        *good_until = ends - (ends - now) * LEFT / 100;
        Ok(())
    }
}

fn give(client: &Client<impl ClientContext>, token: OAuthToken) -> Result<(), String> {
    let refused = |error: NulError| format!("the OAUTHBEARER token is refused: {error}");
    let value = CString::new(token.token).map_err(refused)?;
    let principal = CString::new(token.principal_name).map_err(refused)?;
    let mut reason = [0; REASON];
    // SAFETY: the client lives as long as the reference to it, and this call is safe from any thread; the
    // strings end with a NUL and are copied; no extensions are passed, and none are counted; the client
    // library writes at most `REASON` bytes of `reason`, its NUL included.
    #[expect(unsafe_code, reason = "the client crate has no call of its own for it")]
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr().cast(),
            REASON,
        )
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let reason = CStr::from_bytes_until_nul(&reason).map(CStr::to_string_lossy).unwrap_or_default();
    Err(format!("the OAUTHBEARER token is refused: {reason}"))
}
