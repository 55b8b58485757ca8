//! `spec.delivery`.

use std::time::Duration;

use super::{Check, HOUR, MINUTE, SECOND, WEEK};
use crate::{api::DeliverySpec, plan::DeliveryPlan};

pub(super) fn delivery(check: &mut Check<'_>, spec: &DeliverySpec) -> DeliveryPlan {
    if !(1..=1024).contains(&spec.max_in_flight) {
        check.problem("spec.delivery.maxInFlight", format!("is {}", spec.max_in_flight), "choose 1 to 1024");
    }
    let (initial, max) = (spec.retry.initial_backoff, spec.retry.max_backoff);
    check.within("spec.delivery.retry.initialBackoff", initial.get(), Duration::from_millis(50), MINUTE);
    check.within("spec.delivery.retry.maxBackoff", max.get(), Duration::from_millis(50), HOUR);
    if initial > max {
        check.problem(
            "spec.delivery.retry.maxBackoff",
            format!("is {max}, shorter than initialBackoff, {initial}"),
            "make it longer",
        );
    }
    check.within("spec.delivery.retry.retryAfterMax", spec.retry.retry_after_max.get(), Duration::ZERO, HOUR);
    check.within("spec.delivery.deadline", spec.deadline.get(), SECOND, WEEK);
    DeliveryPlan {
        max_in_flight: spec.max_in_flight as usize,
        initial_backoff: initial.get(),
        max_backoff: max.get(),
        retry_after_max: spec.retry.retry_after_max.get(),
        deadline: spec.deadline.get(),
    }
}
