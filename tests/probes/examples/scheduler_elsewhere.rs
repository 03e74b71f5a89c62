//! A scheduler that answers an engine of its own invention, with escapes to deceive whoever reads of it: the host must take
//! none but the candidates, and show no escape.

use probes::Error;

probes::exports!(scheduler);

impl scheduler::Guest for Probe {
    fn schedule(_: scheduler::ServiceRequest, _: Vec<scheduler::Candidate>) -> Result<String, Error> {
        Ok("../\u{1b}[2Jelsewhere".to_owned())
    }
}
