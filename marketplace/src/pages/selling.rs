//! Prices, buying, the plan, the publisher's dashboard.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{count, go, notice, page};
use crate::accounts::Caller;
use crate::api::{Asked, NewRefund, NewSeats, Sent};
use crate::app::App;
use crate::clock::date;
use crate::payments::{self, NewPrice, Order, Revenue};
use crate::problem::Result;
use crate::search::{Card, money};
use crate::usage::{self, AgentUsage};

/// Its pages.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/dashboard", get(dashboard))
        .route("/dashboard/connect", post(connect))
        .route("/dashboard/orders/{id}/refund", post(refund))
        .route("/agents/{namespace}/{name}/buy", post(buy))
        .route("/publish/agents/{namespace}/{name}/price", post(price))
        .route("/checkout/{order}", get(checkout))
        .route("/account/plan", get(plan).post(buy_plan))
        .route("/account/seats", post(seat))
        .route("/account/orders/{id}/cancel", post(cancel))
}

/// What the page before did.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Done {
    done: Option<String>,
}

/// The price of an agent, and the form of a new one.
pub async fn price_panel(app: &App, caller: &Caller, card: &Card) -> Result<Markup> {
    let sells = caller.account.can_sell && app.stripe.is_some();
    Ok(html! {
        div.panel {
            h2 { "Price" }
            p { span.price { (card.price.shown()) } }
            @if sells {
                form method="post" action={ "/publish/agents/" (card.full_name()) "/price" } {
                    label { span { "Kind" } select name="kind" {
                        option value="free" { "Free" } option value="one_time" { "Once" } option value="subscription" { "A month" } } }
                    label { span { "Amount in the smallest unit (500 is 5.00 USD)" } input type="number" name="amount_minor" value="500" min="0"; }
                    label { span { "Currency" } select name="currency" { @for c in ["usd", "eur", "gbp", "jpy"] { option { (c) } } } }
                    label { span { "Days of trial (subscriptions)" } input type="number" name="trial_days" value="0" min="0" max="90"; }
                    button.plain { "Set price" }
                }
                p.small.soft { "Who bought it at another price keeps it." }
            } @else { p.small.soft { "To sell it, connect an account for payouts under " a href="/dashboard" { "Dashboard" } "." } }
        }
    })
}

async fn price(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(new): Sent<NewPrice>,
) -> Result<Response> {
    payments::set_price(&app, &caller, &namespace, &name, &new).await?;
    Ok(go(&format!("/publish/agents/{namespace}/{name}?done=saved")))
}

async fn buy(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
) -> Result<Response> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    Ok(go(&payments::buy(&app, &caller, &card).await?.url))
}

/// Where Stripe sends a buyer back to. The payment may be told a moment later.
async fn checkout(State(app): State<Arc<App>>, Path(order): Path<String>, caller: Caller) -> Result<Response> {
    let order = payments::order(&app, &caller, &order).await?;
    let card = order.agent_id.as_ref().and_then(|id| app.catalogue.now().with_id(id));
    let entitled = match &card {
        Some(card) => payments::check_entitled(&app, &caller.account, card).await.is_ok(),
        None => order.state == "paid",
    };
    let body = html! {
        h1 { @if entitled { "Thank you" } @else { "Waiting for the payment" } }
        p { (order.shown()) ", ordered " (date(order.created_at)) }
        @if entitled {
            @if let Some(card) = &card {
                form method="post" action={ "/agents/" (card.full_name()) "/install" } { button { "Install " (card.title) } }
            } @else { p { a href="/account/plan" { "To your plan" } } }
        } @else {
            p.soft { "The payment is " (order.state) ". It usually takes a few seconds; load the page again." }
            p { a.button.plain href={ "/checkout/" (order.id) } { "Load again" } }
        }
    };
    Ok(page(Some(&caller), "Checkout", body))
}

async fn plan(State(app): State<Arc<App>>, caller: Caller, Asked(asked): Asked<Done>) -> Result<Response> {
    let seats = payments::seats(&app, &caller).await?;
    let orders = payments::orders(&app, &caller).await?;
    let plans = [
        ("team", "Team", app.config.seats.team_minor),
        ("enterprise", "Enterprise", app.config.seats.enterprise_minor),
    ];
    let body = html! {
        (notice(asked.done.as_deref()))
        h1 { "Plan" }
        p { "You use the plan " b { (caller.account.tier) } "." @if seats.seats > 0 { " You pay for " (seats.seats) " seats." } }
        @if seats.seats > 0 { div.panel { h2 { "Seats" }
            ul { @for handle in &seats.given_to { li { (handle) " "
                form.within method="post" action="/account/seats" { input type="hidden" name="take" value=(handle); button.link { "take back" } } } } }
            form.actions method="post" action="/account/seats" { input name="give" placeholder="handle" aria-label="Handle" required; button.plain { "Give a seat" } }
        } }
        h2 { "Plans" }
        ul.grid { @for (tier, name, minor) in plans { li.card {
            h3 { (name) } p { (money(minor, "usd")) " a seat and month" }
            @if app.stripe.is_some() { form method="post" action="/account/plan" {
                input type="hidden" name="tier" value=(tier);
                label { span { "Seats" } input type="number" name="seats" value="3" min="1" max="1000"; }
                button { "Buy" } } } @else { p.warn { "Selling is not set up on this server." } }
        } } }
        h2 { "Orders" }
        @if orders.is_empty() { p.soft { "None." } } @else { div.panel.scroll { table { tbody { @for o in &orders { tr {
            td.soft { (date(o.created_at)) } td { (bought(&app, o)) } td { (o.shown()) } td { (o.state) }
            td { @if o.renews() { form method="post" action={ "/account/orders/" (o.id) "/cancel" } { button.danger { "Cancel" } } }
                @else if let Some(at) = o.ends_at { span.soft { "ends " (date(at)) } } }
        } } } } } }
    };
    Ok(page(Some(&caller), "Plan", body))
}

/// What an order is for.
fn bought(app: &App, order: &Order) -> String {
    let card = order.agent_id.as_ref().and_then(|id| app.catalogue.now().with_id(id));
    card.map_or_else(|| order.tier.clone().unwrap_or_default(), |card| card.title.clone())
}

async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>, caller: Caller) -> Result<Response> {
    payments::cancel(&app, &caller, &id).await?;
    Ok(go("/account/plan?done=cancelled"))
}

async fn buy_plan(State(app): State<Arc<App>>, caller: Caller, Sent(new): Sent<NewSeats>) -> Result<Response> {
    Ok(go(&payments::buy_seats(&app, &caller, &new.tier, new.seats).await?.url))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SeatForm {
    give: String,
    take: String,
}

async fn seat(State(app): State<Arc<App>>, caller: Caller, Sent(form): Sent<SeatForm>) -> Result<Response> {
    match form.take.as_str() {
        "" => payments::give_seat(&app, &caller, form.give.trim()).await?,
        handle => payments::take_seat(&app, &caller, handle).await?,
    }
    Ok(go("/account/plan?done=saved"))
}

async fn connect(State(app): State<Arc<App>>, caller: Caller) -> Result<Response> {
    Ok(go(&payments::onboard(&app, &caller).await?))
}

async fn refund(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    caller: Caller,
    Sent(new): Sent<NewRefund>,
) -> Result<Response> {
    payments::refund(&app, &caller, &id, new.amount_minor).await?;
    Ok(go("/dashboard?done=saved"))
}

/// The publisher's dashboard.
async fn dashboard(State(app): State<Arc<App>>, caller: Caller, Asked(asked): Asked<Done>) -> Result<Response> {
    let revenue = payments::revenue(&app, &caller).await?;
    let (usage, without) = usage::known(&app, &caller).await?;
    let sales = payments::sales(&app, &caller).await?;
    let body = html! {
        (notice(asked.done.as_deref()))
        h1 { "Dashboard" }
        h2 { "Revenue" }
        @if revenue.is_empty() { p.soft { "No sales yet." } }
        @for r in &revenue { (tiles(r)) }
        @if app.stripe.is_some() { form method="post" action="/dashboard/connect" {
            button.plain { @if caller.account.can_sell { "Payout account" } @else { "Connect an account for payouts" } } } }
        h2 { "Usage in the last 30 days" }
        @if let Some(problem) = &without { div.notice.bad { (problem.detail()) } }
        (usage_table(&usage))
        h2 { "Sales" }
        @if sales.is_empty() { p.soft { "None yet." } } @else { div.panel.scroll { table {
            thead { tr { th { "When" } th { "Agent" } th.n { "Paid" } th.n { "Paid back" } th { "State" } th {} } }
            tbody { @for s in &sales { tr {
                td.soft { (date(s.at)) } td { (s.agent) }
                td.n { (money(s.paid_minor, &s.currency)) } td.n { (money(s.refunded_minor, &s.currency)) } td { (s.state) }
                td { @if s.refunded_minor < s.paid_minor && s.state == "paid" {
                    form method="post" action={ "/dashboard/orders/" (s.order) "/refund" } { button.danger { "Pay back" } } } }
            } } }
        } } }
    };
    Ok(page(Some(&caller), "Dashboard", body))
}

fn tiles(r: &Revenue) -> Markup {
    let all = [
        ("Gross", r.gross_minor),
        ("Fees", -r.fees_minor),
        ("Paid back", -r.refunds_minor),
        ("Disputed", -r.disputes_minor),
        ("Net", r.net_minor),
        ("Paid out", r.paid_out_minor),
        ("Next payout", r.next_payout_minor),
        ("Monthly recurring", r.mrr_minor),
    ];
    html! { div.tiles { @for (name, minor) in all { div.tile { b { (money(minor, &r.currency)) } span { (name) } } } } }
}

fn usage_table(rows: &[AgentUsage]) -> Markup {
    let percent = |part: Option<f64>| part.map_or("–".to_string(), |p| format!("{:.1} %", p * 100.0));
    html! {
        @if rows.is_empty() { p.soft { "Nothing of yours is published yet." } } @else { div.panel.scroll { table {
            thead { tr { th { "Agent" } th { "Version" } th.n { "Installed now" } th.n { "Kept after 7 days" } th.n { "Executions" }
                th.n { "Success" } th.n { "p95" } th.n { "Tokens" } } }
            tbody { @for u in rows { tr {
                td { a href={ "/agents/" (u.agent) } { (u.agent) } } td { (u.version) } td.n { (count(u.active_installs)) }
                td.n { (percent(u.retained_7d)) } td.n { (count(u.executions)) } td.n { (percent(u.success)) }
                td.n { (u.duration_p95_ms.map_or("–".to_string(), |p| format!("{p:.0} ms"))) } td.n { (count(u.tokens)) }
            } } }
        } } }
    }
}
