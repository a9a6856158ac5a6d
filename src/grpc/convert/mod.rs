//! Values of the house to messages of the wire and back; the one place where both are known.

mod adopt;

mod ask;

mod catalog;

mod event;

mod explain;

mod found;

mod plan;

mod refuse;

mod resources;

mod run;

mod status;

mod verify;

use jiff::Timestamp;

pub use adopt::{adopt_order, adopted};
pub use ask::{files, given, page, required};
pub use catalog::{filtered, listed};
pub use event::{event, is_wanted};
pub use explain::{explained, forecast};
pub use found::{image_set, problem, validated};
pub use plan::{plan, plan_step, plan_summary, planned};
pub use refuse::{DOMAIN, REASON, details, refusal, refused, unfit};
pub use resources::{pictured, released, resources, retired};
pub use run::{run, run_event, run_summary};
pub use status::status_answer;
pub use verify::{verify_event, verify_order};

/// How many entries of a list that can be very long stand in one message.
const MOST: usize = 1000;

fn time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}
