//! The one way to an HTTP client: TLS is rustls with the system's certificate store and one provider of
//! cryptography for the whole program.

use std::sync::Once;

/// An error and what lies behind it, outermost first.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let behind = std::iter::successors(error.source(), |cause| cause.source());
    behind.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}

/// What every HTTP client of the program is built from.
pub fn http_client() -> reqwest::ClientBuilder {
    static PROVIDED: Once = Once::new();
    PROVIDED.call_once(|| {
        // Refused where there is one already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    #[expect(clippy::disallowed_methods, reason = "the provider is there")]
    reqwest::Client::builder()
}
