//! The harness's app as a process of its own, for tests that kill it: `pillion-test-app NAME ADDR [exit-on-term]`.

use pillion_tests::app::App;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(address)) = (arguments.next(), arguments.next()) else {
        return std::process::ExitCode::from(64);
    };
    let Ok(address) = address.parse() else {
        return std::process::ExitCode::from(64);
    };
    match App::start_at(&name, address) {
        Ok(app) => {
            app.join();
            std::process::ExitCode::SUCCESS
        }
        Err(_) => std::process::ExitCode::FAILURE,
    }
}
