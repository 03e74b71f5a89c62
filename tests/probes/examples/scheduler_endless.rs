//! A scheduler that never answers: the host must stop it at its deadline and decide itself.

use std::hint::black_box;

use probes::Error;

probes::exports!(scheduler);

impl scheduler::Guest for Probe {
    fn schedule(_: scheduler::ServiceRequest, _: Vec<scheduler::Candidate>) -> Result<String, Error> {
        for step in 0..u64::MAX {
            black_box(step);
        }
        Err(probes::broken("computed without end"))
    }
}
