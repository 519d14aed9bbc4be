//! Business intelligence: revenue, subscriptions, conversion, customers, churn.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use maud::{Markup, html};
use millstream_report::Better;

use super::ask::{Question, ask, numbers, texts};
use super::figure::Figure;
use super::panel::{Draw, Panel};
use super::period::{Choice, Period};
use super::sections::{Section, render};
use super::shell::Page;
use crate::http::{App, Problem};

const FIGURES: [Figure; 6] = [
    Figure::last("MRR", "mrr", "mrr_minor", Better::Higher, "#panel-mrr"),
    Figure::last("ARR", "mrr", "arr_minor", Better::Higher, "#panel-mrr"),
    Figure::last("Paying customers", "mrr", "customers", Better::Higher, "#panel-mrr"),
    Figure::last("Per customer", "mrr", "arpa_minor", Better::Higher, "#panel-mrr"),
    Figure::whole("Revenue", "revenue", "net_minor", Better::Higher, "#panel-revenue"),
    Figure::last("Lifetime value", "ltv", "ltv_minor", Better::Higher, "#panel-ltv"),
];

const SECTIONS: [Section; 4] = [
    Section {
        title: "Revenue",
        panels: &[
            Panel::new(
                "MRR movements",
                "mrr_movements",
                Draw::Stacked(
                    &["new_minor", "expansion_minor", "reactivation_minor"],
                    &["contraction_minor", "churn_minor"],
                ),
                "subscription_events",
            )
            .interval("month")
            .money()
            .wide(),
            Panel::new("MRR", "mrr", Draw::Line(&["mrr_minor"]), "subscription_events").money(),
            Panel::new("Revenue", "revenue", Draw::Bars("net_minor"), "payment_events").money(),
        ],
    },
    Section {
        title: "Conversion",
        panels: &[
            Panel::new(
                "Free → Team → Enterprise",
                "tier_funnel",
                Draw::Funnel("tier", "accounts"),
                "subscription_events",
            ),
            Panel::new(
                "Upgrades to a higher plan",
                "tier_conversion",
                Draw::Line(&["upgrade_rate"]),
                "subscription_events",
            )
            .interval("month")
            .split("tier"),
            Panel::new(
                "Accounts by plan",
                "tier_distribution",
                Draw::StackedBy("tier", "accounts"),
                "subscription_events",
            )
            .wide(),
        ],
    },
    Section {
        title: "Customers",
        panels: &[
            Panel::new(
                "Segments by payments",
                "customer_segments",
                Draw::Ranking("segment", "accounts"),
                "payment_events",
            )
            .money(),
            Panel::new("Segments by use", "usage_segments", Draw::Ranking("segment", "accounts"), "ide_events"),
            Panel::new("Lifetime value", "ltv", Draw::Line(&["ltv_minor"]), "subscription_events")
                .interval("month")
                .money()
                .wide(),
            Panel::new(
                "Revenue cohorts: what a month’s customers pay in all",
                "revenue_cohorts",
                Draw::Heat("n", "cohort", "net_cumulative_minor"),
                "payment_events",
            )
            .interval("month")
            .money()
            .wide(),
            Panel::new("Top customers", "top_customers", Draw::Table, "payment_events").money().wide(),
        ],
    },
    Section {
        title: "Churn",
        panels: &[
            Panel::new("Customer churn", "churn", Draw::Line(&["customer_churn_rate"]), "subscription_events")
                .interval("month")
                .money(),
            Panel::new(
                "Revenue churn",
                "churn",
                Draw::Line(&["gross_mrr_churn_rate", "net_mrr_churn_rate"]),
                "subscription_events",
            )
            .interval("month")
            .money(),
        ],
    },
];

/// `GET /business`.
pub async fn page(
    State(app): State<Arc<App>>,
    Query(choice): Query<Choice>,
    headers: HeaderMap,
) -> Result<Markup, Problem> {
    let mut period = choice.resolve(&app, "12m", app.zone())?;
    let currencies = currencies(&app, &period).await;
    if !currencies.contains(&period.currency) {
        period.currency = currencies.first().cloned().unwrap_or_default();
    }
    let content = html! {
        @if currencies.len() > 1 {
            nav.spans.currencies aria-label="Currency" {
                @for currency in &currencies {
                    a href={ "?" (period.query(&[("currency", currency)])) } aria-current=[(*currency == period.currency).then_some("true")] { (currency) }
                }
            }
        }
        (render(&app, &period, &FIGURES, &SECTIONS, &[]).await)
    };
    let about =
        "Revenue, subscriptions and customers. One currency at a time: amounts are never added across currencies.";
    let page = Page { path: "/business", title: "Business", about, period: Some(&period), breakdowns: &[] };
    Ok(page.render(&app, &headers, content))
}

/// The currencies that customers pay in, that of most customers first: of subscribers, where it has any. What goes wrong here is told
/// by the panels.
pub async fn currencies(app: &App, period: &Period) -> Vec<String> {
    let question = Question { interval: Some(period.interval()), ..Question::of(period) };
    let mut customers: BTreeMap<String, f64> = BTreeMap::new();
    let (paid, subscribed) = tokio::join!(ask(app, "revenue", &question), ask(app, "mrr", &question));
    for answer in [paid, subscribed].into_iter().filter_map(|answer| answer.ok().flatten()) {
        let names = answer.rows.column_by_name("currency").and_then(|column| texts(column).ok()).unwrap_or_default();
        let mut counts = numbers(&answer.rows, "customers").into_iter();
        for name in names {
            // The rows are in the order of time: the last counts.
            customers.insert(name.unwrap_or_default(), counts.next().flatten().unwrap_or(0.0));
        }
    }
    let mut currencies: Vec<(String, f64)> = customers.into_iter().filter(|(name, _)| !name.is_empty()).collect();
    currencies.sort_by(|a, b| b.1.total_cmp(&a.1));
    currencies.into_iter().map(|(name, _)| name).collect()
}
