//! `sim SEED [COUNT]`: runs COUNT seeds from SEED on, prints a line for each failing one and a
//! summary.

use std::process::ExitCode;
use std::time::Instant;

#[allow(clippy::disallowed_methods)] // how long the simulation itself took
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next().map(|text| text.parse::<u64>()) {
        Some(Ok(number)) => Some(number),
        None => Some(default),
        Some(Err(_)) => None,
    };
    let (Some(first), Some(count)) = (number(0), number(1)) else {
        eprintln!("usage: sim [SEED] [COUNT]");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let (mut failed, mut acked, mut crashes, mut simulated_ms) = (0, 0, 0, 0);
    for seed in first..first.saturating_add(count) {
        match ottla_sim::run(seed) {
            Ok(summary) => {
                acked += summary.acked;
                crashes += u64::from(summary.crashes + summary.power_losses);
                simulated_ms += summary.simulated_ms;
                if count == 1 {
                    println!("{summary:#?}");
                }
            }
            Err(violation) => {
                failed += 1;
                println!("seed {seed}: {violation}");
            }
        }
    }
    println!(
        "{count} seeds, {failed} failed, {acked} records acknowledged, {crashes} crashes, \
         {} simulated s in {:.1} s",
        simulated_ms / 1000,
        began.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failed > 0))
}
