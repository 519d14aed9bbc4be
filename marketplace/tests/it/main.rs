//! The marketplace over HTTP, as its users meet it, on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounts;
mod attacks;
mod browser;
mod catalogue;
mod chromium;
mod events;
mod installs;
mod letters;
mod market;
mod oidc;
mod packages;
mod pages;
mod payments;
mod postgres;
mod publishing;
mod real_reviews;
mod reviews;
mod search;
mod speed;
mod stripe;

#[path = "../../../tests/shared/mail_server.rs"]
mod mail_server;
#[path = "../../../tests/shared/webdriver.rs"]
mod webdriver;

/// The same test on both databases.
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($market:ident: Market) $body:block)*) => {
        $(mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn check($market: $crate::market::Market) $body

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check($crate::market::Market::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check($crate::market::Market::start_on($crate::postgres::database().await).await).await;
            }
        })*
    };
}
