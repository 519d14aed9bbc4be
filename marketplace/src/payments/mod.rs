//! Money: prices, buying, what Stripe tells, who may use what, the ledger.
//!
//! ```text
//! buy --order, checkout session--> Stripe --webhook--> facts (charges, subscriptions) --settle--> entitlement, tier, ledger
//! ```
//!
//! Only what Stripe tells changes what somebody may use. Facts only grow or are read anew from Stripe, and all else is computed
//! from facts, so it does not matter in which order or how often Stripe tells them.

mod checkout;
mod facts;
mod ledger;
mod price;
mod seats;
mod stripe;
mod webhook;

pub use self::checkout::{Checkout, Order, Sale, buy, buy_seats, cancel, onboard, order, orders, refund, sales};
pub use self::ledger::{Revenue, balances, revenue};
pub use self::price::{NewPrice, check_entitled, set as set_price};
pub use self::seats::{Seats, give as give_seat, seats, take as take_seat};
pub use self::stripe::Stripe;
pub use self::webhook::{receive, reconcile};
