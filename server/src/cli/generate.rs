//! `millstream generate`: sends a platform that does not exist, and tells the truth about it.

use std::path::PathBuf;

use clap::Args;
use millstream::time::day_of;
use millstream::{Error, Result};
use serde_json::{Value, json};

use super::progress::Progress;
use super::sql::api_key;
use super::{clock, print};
use crate::generate::send::{Target, send};
use crate::generate::{Shape, Truth, World};
use crate::range::{parse_day, show_day};

/// Arguments of `millstream generate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millstream generate --users 1000 --days 90 --key $KEY
  millstream generate --users 5000 --days 90 --events 200 --truth truth.json

Accounts, users, plans, agents, requests, bills and incidents, day by day. The same seed gives the same events, and sending
them again adds nothing. --truth writes what every metric should say, counted as the events were made up.")]
pub struct GenerateArgs {
    /// Users at the end
    #[arg(long, default_value_t = 1_000)]
    users: u32,
    /// Days
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// The first day [default: so many days ago that the last one is yesterday]
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    from: Option<i32>,
    /// Events that an active user causes on a day, about
    #[arg(long, value_name = "N", default_value_t = 20)]
    events: u32,
    /// What makes it this platform and no other
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Events a second at most [default: as fast as the server takes them]
    #[arg(long)]
    rate: Option<u64>,
    /// Where to write the truth, as JSON
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// The server's gRPC address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7171")]
    url: String,
    /// The API key [default: the variable MILLSTREAM_API_KEY]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// Sends everything.
pub async fn run(args: GenerateArgs) -> Result<()> {
    if args.users == 0 || args.days == 0 {
        return Err(Error::Config("--users and --days must be 1 or more".into()));
    }
    let days = i32::try_from(args.days).map_err(|_| Error::Config("--days is too large".into()))?;
    let first_day = args.from.unwrap_or_else(|| day_of(clock().now()) - days);
    let shape = Shape { seed: args.seed, users: args.users, first_day, days: args.days, events_per_user: args.events };
    let target = Target { endpoint: args.url, key: api_key(args.key.as_deref())?, rate: args.rate };
    let mut world = World::new(shape);
    let progress = Progress::steps(u64::from(args.days));
    let mut done = 0;
    let totals = send(&mut world, &target, |events| {
        done += 1;
        progress.set(done, format!("{events} events"));
    })
    .await?;
    let took = progress.elapsed().as_secs_f64();
    drop(progress);
    if let Some(path) = &args.truth {
        std::fs::write(path, show(&world.truth).to_string()).map_err(|e| Error::file(path, "write", e))?;
    }
    let events = totals.accepted + totals.duplicates;
    let last = show_day(first_day + days - 1);
    print(
        format!(
            "{events} events of {} to {last} in {took:.1} s ({:.0} a second), {} duplicates, {} refused\n",
            show_day(first_day),
            events as f64 / took.max(0.001),
            totals.duplicates,
            totals.rejected
        )
        .as_bytes(),
    )
}

/// The truth, day by day.
fn show(truth: &Truth) -> Value {
    let days = truth.days.iter().enumerate().map(|(number, day)| {
        let currency = |i: usize| {
            let kinds = day.movements.get(i).into_iter().flatten();
            let movements: serde_json::Map<String, Value> =
                kinds.map(|(kind, micros)| (format!("{kind:?}").to_lowercase(), json!(*micros as f64 / 1e6))).collect();
            let net: i64 = day.payments.get(i).into_iter().flatten().map(|(_, minor)| minor).sum();
            let (mrr, customers) = day.mrr.get(i).copied().unwrap_or_default();
            json!({ "mrr_minor": mrr as f64 / 1e6, "customers": customers, "movements_minor": movements, "net_minor": net })
        };
        json!({
            "day": show_day(truth.shape.first_day + number as i32),
            "active_users": day.active.len(),
            "trailing_7_days": truth.active_users((number + 1).saturating_sub(7), number + 1).len(),
            "trailing_30_days": truth.active_users((number + 1).saturating_sub(30), number + 1).len(),
            "executions": day.executions,
            "failures": day.failures,
            "tokens_input": day.tokens.0,
            "tokens_output": day.tokens.1,
            "cost_usd": day.cost_micros as f64 / 1e6,
            "cost_list_usd": day.cost_list_usd,
            "requests": day.requests.iter().map(|(code, n)| (code.to_string(), *n)).collect::<std::collections::BTreeMap<_, _>>(),
            "accounts": { "free": day.tiers[0], "team": day.tiers[1], "enterprise": day.tiers[2] },
            "USD": currency(0),
            "EUR": currency(1),
            "infra_usd": day.infra_micros as f64 / 1e6,
        })
    });
    json!({ "seed": truth.shape.seed, "users": truth.shape.users, "days": days.collect::<Vec<_>>() })
}
