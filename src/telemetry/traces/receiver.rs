//! The client that reaches the receiver. The exporter keeps why a request failed to itself; here it is kept
//! until it is told.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use parking_lot::Mutex;

use crate::base::causes;

/// Why the last request got no answer.
pub(super) type Reason = Arc<Mutex<Option<String>>>;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) client: reqwest::Client,
    pub(super) failed: Reason,
}

impl Receiver {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.send_bytes(request).await;
        *self.failed.lock() =
            answer.as_ref().err().map(|error| match error.downcast_ref::<reqwest::Error>() {
                // Its URL would be told before what is wrong.
                Some(error) => error.source().map_or_else(|| error.to_string(), causes),
                None => causes(&**error),
            });
        answer
    }
}

impl HttpClient for Receiver {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}
