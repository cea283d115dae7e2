//! What OpenTelemetry's own variables say, checked before anything starts.
//!
//! The SDK falls back in silence where a value is wrong; here it is an error that names the variable.
//! Endpoint, headers, sampler and resource are read by the SDK itself, from the same variables.

use std::time::Duration;

use reqwest::Url;

/// Where a receiver is named, for traces alone or for everything.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const COMPRESSIONS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// How spans are exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSettings {
    /// How long one batch may take, all its tries together.
    pub(super) timeout: Duration,
    /// How many spans may wait.
    pub(super) queue: usize,
    /// How many go in one request.
    pub(super) batch: usize,
    /// How long the first of them waits for the others.
    pub(super) delay: Duration,
}

/// A variable that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is `{value}`: {help}")]
pub struct TraceError {
    variable: &'static str,
    value: String,
    help: String,
}

impl TraceError {
    pub(super) fn new(variable: &'static str, value: impl Into<String>, help: impl Into<String>) -> Self {
        Self { variable, value: value.into(), help: help.into() }
    }
}

impl TraceSettings {
    /// Reads the variables; `None` where they name no receiver or switch traces off.
    ///
    /// # Errors
    /// The first value that cannot be followed.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TraceError> {
        let set = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let either = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, set(name)?)));
        if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match set("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                return Err(TraceError::new("OTEL_TRACES_EXPORTER", other, "write `otlp` or `none`"));
            }
        }
        let Some((name, endpoint)) = either(ENDPOINTS) else { return Ok(None) };
        check_endpoint(name, &endpoint)?;
        if let Some((name, protocol)) = either(PROTOCOLS).filter(|(_, protocol)| protocol != "http/protobuf")
        {
            let help = "spans are sent as `http/protobuf`; leave it out and name the receiver's HTTP port";
            return Err(TraceError::new(name, protocol, format!("{help} (4318 as a rule)")));
        }
        if let Some((name, value)) =
            either(COMPRESSIONS).filter(|(_, value)| !matches!(&**value, "gzip" | "none"))
        {
            return Err(TraceError::new(name, value, "write `gzip` or `none`"));
        }
        check_sampler(set(SAMPLER), set(SAMPLER_ARGUMENT))?;
        let number = |name: &'static str, otherwise: u64| match set(name) {
            None => Ok(otherwise),
            Some(value) => whole(name, &value),
        };
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048)?;
        let timeout = match either(TIMEOUTS) {
            None => 10_000,
            Some((name, value)) => whole(name, &value)?,
        };
        Ok(Some(Self {
            timeout: Duration::from_millis(timeout),
            queue: usize::try_from(queue).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS),
            batch: usize::try_from(number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?.min(queue)).unwrap_or(512),
            delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5_000)?),
        }))
    }
}

fn check_endpoint(name: &'static str, endpoint: &str) -> Result<(), TraceError> {
    let fits =
        Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let help = "write a whole URL, as `http://collector:4318`";
    if fits { Ok(()) } else { Err(TraceError::new(name, endpoint, help)) }
}

fn check_sampler(sampler: Option<String>, argument: Option<String>) -> Result<(), TraceError> {
    let Some(sampler) = sampler else { return Ok(()) };
    if !SAMPLERS.contains(&&*sampler) {
        return Err(TraceError::new(SAMPLER, sampler, format!("it is one of {}", SAMPLERS.join(", "))));
    }
    let Some(argument) = argument.filter(|_| sampler.ends_with("traceidratio")) else { return Ok(()) };
    let fits = argument.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share));
    let help = "write the share of traces to keep, from 0 to 1";
    if fits { Ok(()) } else { Err(TraceError::new(SAMPLER_ARGUMENT, argument, help)) }
}

fn whole(name: &'static str, value: &str) -> Result<u64, TraceError> {
    let number = value.parse().ok().filter(|number| *number > 0);
    number
        .ok_or_else(|| TraceError::new(name, value, "write a whole number above 0 (times are milliseconds)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

    fn read(variables: &[(&str, &str)]) -> Result<Option<TraceSettings>, String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        TraceSettings::from_variables(find).map_err(|error| error.to_string())
    }

    #[test]
    fn traces_are_on_where_a_receiver_is_named_and_nothing_says_no() {
        let whole = read(&[ON]).unwrap().unwrap();
        assert_eq!((whole.queue, whole.batch, whole.delay), (2_048, 512, Duration::from_secs(5)));
        assert!(read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://h/v1/traces")]).unwrap().is_some());
        for off in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[ON, ("OTEL_SDK_DISABLED", "TRUE")],
            &[ON, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert_eq!(read(off), Ok(None), "{off:?}");
        }
        let small = read(&[ON, ("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "250")]);
        let small = small.unwrap().unwrap();
        assert_eq!((small.queue, small.batch, small.timeout), (8, 8, Duration::from_millis(250)));
    }

    #[test]
    fn a_value_that_cannot_be_followed_is_named_with_what_to_write() {
        for (name, value, help) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "whole URL"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "`http/protobuf`"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "`otlp`"),
            ("OTEL_TRACES_SAMPLER", "xray", "parentbased_always_on"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "above 0"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "`gzip`"),
        ] {
            let error = read(&[(name, value), ON]).unwrap_err();
            assert!(error.starts_with(&format!("{name} is `{value}`: ")) && error.contains(help), "{error}");
        }
        let ratio = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        assert!(read(&[ON, ratio, ("OTEL_TRACES_SAMPLER_ARG", "0.25")]).is_ok());
        let error = read(&[ON, ratio, ("OTEL_TRACES_SAMPLER_ARG", "25")]).unwrap_err();
        assert!(error.contains("from 0 to 1"), "{error}");
    }
}
