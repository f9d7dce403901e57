//! Whether a browser sent a request for a page of somebody else's. Browsers run pages of strangers, and let them send
//! requests anywhere; but they say truthfully for whom they send them, in `Origin` and `Sec-Fetch-Site`.

use http::{HeaderMap, HeaderName, HeaderValue, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request to `host` is one of another site's page; `None` where it is not.
pub fn stranger(headers: &HeaderMap, host: &str) -> Option<&'static str> {
    if headers.get_all(header::ORIGIN).iter().any(|origin| !is_own_origin(origin.as_bytes(), host)) {
        return Some("its `Origin` is another site");
    }
    let foreign = |site: &HeaderValue| !matches!(site.as_bytes(), b"same-origin" | b"none");
    headers.get_all(SEC_FETCH_SITE).iter().any(foreign).then_some("a page of another site sent it")
}

/// Whether an origin is the very host that was asked, in clear or behind somebody's TLS.
fn is_own_origin(origin: &[u8], host: &str) -> bool {
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &'static str) -> bool {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
        stranger(&headers, "localhost:5000").is_some()
    }

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        assert!(stranger(&HeaderMap::new(), "localhost:5000").is_none(), "no browser");
        for (name, value) in [
            ("origin", "http://localhost:5000"),
            ("origin", "https://LOCALHOST:5000"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
        ] {
            assert!(!of(name, value), "{name}: {value}");
        }
        for (name, value) in [
            ("origin", "null"),
            ("origin", ""),
            ("origin", "localhost:5000"),
            ("origin", "http://localhost"),
            ("origin", "http://localhost:5001"),
            ("origin", "http://localhost:5000.evil.example"),
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", ""),
        ] {
            assert!(of(name, value), "{name}: {value}");
        }
    }
}
