//! The Kubernetes side: declares (spec in) and reports (snapshot out). It never touches Redis or HTTP.

pub mod membership;
pub mod status;
