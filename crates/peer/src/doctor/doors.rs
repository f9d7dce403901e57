//! The door for other peers: dialled at every address that others are told, as they would dial it, with the certificate
//! that they would see.

use futures::future::join_all;
use wire::rest::pclient::Check;

use super::{Parameters, failed, ok, span, took, warning};
use crate::relay::broker::RelayState;

/// A certificate is renewed long before this.
const SHORT: i64 = 3_600;
const NOT_TRIED: &str = "peer login; nothing can be tried without the certificate that comes with it";

pub(super) async fn look(parts: &Parameters) -> Vec<Check> {
    let Some(credentials) = parts.tls.present() else {
        return vec![warning("pserver", "not tried: nobody is logged in", NOT_TRIED)];
    };
    let mut checks = vec![certificate(credentials.valid_until() - parts.clock.now().as_second())];
    if !parts.listens {
        checks.push(closed(parts));
        return checks;
    }
    checks.extend(join_all(parts.advertise.iter().map(|endpoint| dial(parts, endpoint))).await);
    checks
}

fn certificate(left: i64) -> Check {
    match left {
        SHORT.. => ok("certificate", format!("holds for {}; it is renewed by itself", span(left))),
        0.. => {
            let advice = "it should have been renewed by now: see what is said of the directory";
            warning("certificate", format!("ends in {}", span(left)), advice)
        }
        _ => failed(
            "certificate",
            format!("ended {} ago: no peer talks to this one", span(-left)),
            "see what is said of the directory and of the clock",
        ),
    }
}

/// A peer that takes no calls lives by the relay.
fn closed(parts: &Parameters) -> Check {
    let relay = parts.relay.as_ref().map(|relay| relay.state().borrow().clone());
    match relay {
        Some(RelayState::On { .. }) => ok("pserver", "takes no calls; others reach this peer over the relay"),
        _ => warning(
            "pserver",
            "takes no calls, and there is no relay: nobody can fetch from this peer",
            "set PSERVER_LISTEN, or see to the relay",
        ),
    }
}

async fn dial(parts: &Parameters, endpoint: &str) -> Check {
    let Some(itself) = parts.itself(vec![endpoint.to_owned()]) else {
        return warning("pserver", "not tried: nobody is logged in", NOT_TRIED);
    };
    match parts.links.try_out(&itself).await {
        Ok(time) => ok(
            "pserver",
            format!(
                "{endpoint} leads here, by mutual TLS, in {}; from this machine, others were not asked",
                took(time)
            ),
        ),
        Err(error) => failed(
            "pserver",
            format!("{endpoint} is what others are told, and does not lead here: {error}"),
            "set PSERVER_ADVERTISE to an address that leads here, and open its port; where a router does not let a \
             machine dial its own outer address, try from another machine",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::rest::pclient::CheckResult::{Failed, Ok as Fine, Warning};

    #[test]
    fn a_certificate_has_time_left_or_not() {
        for (left, result, words) in [
            (86_400, Fine, "holds for 24 hours; it is renewed by itself"),
            (3_599, Warning, "ends in 59 minutes"),
            (-1, Failed, "ended 1 seconds ago: no peer talks to this one"),
        ] {
            let check = certificate(left);
            assert_eq!((check.result, check.found.as_str()), (result, words), "{left}");
        }
    }
}
