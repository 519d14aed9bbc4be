//! Links the binary at a fixed address. Position-independent, it would have 12 MB of addresses that the loader fills in at
//! each start: three quarters of the page faults up to the first row, and a seventh of the memory. The price: the addresses
//! of code are the same each time, so they are no hurdle for whoever has found a way to overwrite memory.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is_host = std::env::var("HOST") == std::env::var("TARGET");
    if is_host && std::env::var("TARGET").is_ok_and(|target| target.ends_with("-linux-gnu")) {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
