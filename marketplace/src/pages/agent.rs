//! An agent's page, and what its buttons do.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;

use super::layout::{categories, count, go, notice, page, stars};
use crate::accounts::{Address, Caller, Limit, MaybeCaller, Role};
use crate::api::{Asked, Reason, Sent, who};
use crate::app::App;
use crate::catalogue::agent::{self, Details, details};
use crate::clock::date;
use crate::events::Event;
use crate::installs::{self, Installed, Wanted};
use crate::payments;
use crate::problem::{Problem, Result};
use crate::reviews::{self, NewReview, Review};

/// What the page before did, and which reviews to show.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Show {
    done: Option<String>,
    after: Option<String>,
    from: Option<String>,
}

/// The page.
pub async fn show(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    MaybeCaller(caller): MaybeCaller,
    Address(address): Address,
    Asked(asked): Asked<Show>,
) -> Result<Response> {
    app.limits.take(Limit::Read, &address)?;
    let details = details(&app, &namespace, &name).await?;
    let reviews = reviews::list(&app, &details.card, caller.as_ref(), asked.after.as_deref()).await?;
    let (mut installed, mut entitled) = (None, Ok(()));
    if let Some(caller) = &caller {
        installed = installs::one(&app, &caller.account.id, &details.card).await?;
        entitled = payments::check_entitled(&app, &caller.account, &details.card).await;
    }
    if asked.done.is_none() && asked.after.is_none() {
        let event = Event::new("viewed", app.clock.now_ms()).about(&details.card);
        let event = Event { referrer: asked.from.unwrap_or_default(), ..event };
        app.views.add(who(&app, event, caller.as_ref(), &address));
    }
    let body = html! {
        (notice(asked.done.as_deref()))
        h1 { (details.card.title) }
        p.soft { (details.card.summary) }
        p.small.soft {
            code { (details.card.full_name()) } " by "
            a href={ "/search?namespace=" (details.card.namespace) } { (details.card.publisher) }
            " · version " (details.card.latest_version) " · " (details.license)
        }
        (categories(&details.card))
        div.columns.right {
            div {
                @if !details.screenshots.is_empty() {
                    div.shots { @for (i, url) in details.screenshots.iter().enumerate() {
                        img src=(url) alt={ "Screenshot " (i + 1) } loading="lazy" referrerpolicy="no-referrer";
                    } }
                }
                section.readme aria-labelledby="readme" { h2.unseen #readme { "Readme" } (PreEscaped(&details.readme_html)) }
                (reviews_of(&details, &reviews, caller.as_ref(), installed.as_ref()))
            }
            aside aria-label="Install and facts" {
                (install_panel(&app, &details, caller.as_ref(), installed.as_ref(), entitled.as_ref().err()))
                (facts(&details))
                (versions(&details))
                @if let Some(caller) = &caller { (concerns(&details, caller)) }
            }
        }
    };
    Ok(page(caller.as_ref(), &details.card.title, body))
}

fn install_panel(
    app: &App,
    details: &Details,
    caller: Option<&Caller>,
    installed: Option<&Installed>,
    refused: Option<&Problem>,
) -> Markup {
    let card = &details.card;
    let base = format!("/agents/{}", card.full_name());
    let command = format!("marketplace install {} --url {}", card.full_name(), app.public_url());
    html! {
        div.panel.install {
            p { span.price { (card.price.shown()) } }
            @match (caller, refused, installed) {
                (None, _, _) => a.button href={ "/sign-in?next=" (base) } {
                    @if card.price.kind == "free" { "Sign in to install" } @else { "Sign in to buy" }
                },
                (Some(_), Some(_), _) => {
                    @if app.stripe.is_some() {
                        form method="post" action={ (base) "/buy" } { button { "Buy for " (card.price.shown()) } }
                    } @else { p.warn { "Selling is not set up on this server." } }
                },
                (Some(_), None, None) => form method="post" action={ (base) "/install" } { button { "Install" } },
                (Some(_), None, Some(has)) => {
                    p.good { "✓ Version " (has.version) " is installed" }
                    @if let Some(new) = &has.update_to {
                        form method="post" action={ (base) "/install" } { button { "Upgrade to " (new) } }
                    }
                    @if !has.rollback_to.is_empty() {
                        form.actions method="post" action={ (base) "/rollback" } {
                            label.grow { span { "Go back to" }
                                select name="version" { @for v in &has.rollback_to { option { (v) } } } }
                            button.plain { "Roll back" }
                        }
                    }
                    form method="post" action={ (base) "/uninstall" } { button.danger { "Remove" } }
                },
            }
            p.small.soft.spaced { "In a terminal:" }
            pre { code { (command) } }
            button.plain.small data-copy=(command) hidden { "Copy command" }
        }
    }
}

fn facts(details: &Details) -> Markup {
    html! {
        div.panel {
            h2 { "What it may do" }
            @if details.permissions.is_empty() { p.soft { "It asks for no permissions." } }
            ul { @for p in &details.permissions { li { code { (p) } } } }
            dl.facts {
                @if let Some(runtime) = &details.runtime { dt { "Runs on" } dd { (runtime.kind) " " (runtime.version) } }
                dt { "Installs" } dd { (count(details.card.installs)) " (" (count(details.active_installs)) " now)" }
                dt { "First published" } dd { (date(details.card.published_at)) }
                dt { "Licence" } dd { (details.license) }
                @if !details.repository.is_empty() {
                    dt { "Source" } dd { a href=(details.repository) rel="nofollow noopener" { (details.repository) } }
                }
            }
        }
    }
}

/// For who thinks that it should not be here, and for who decides that.
fn concerns(details: &Details, caller: &Caller) -> Markup {
    let base = format!("/agents/{}", details.card.full_name());
    html! {
        details.small { summary { "Report this agent" }
            form method="post" action={ (base) "/report" } {
                label { span { "Why?" } input name="reason" required maxlength="1000"; } button.plain { "Send report" } } }
        @if caller.account.role >= Role::Moderator {
            details.small { summary { "Take it out of the catalogue" }
                form method="post" action={ (base) "/remove" } {
                    label { span { "Why? The publisher reads it" } input name="reason" required maxlength="2000"; }
                    button.danger { "Take it out" } } }
        }
    }
}

/// The form Report.
pub async fn report(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(why): Sent<Reason>,
) -> Result<Response> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    reviews::report(&app, &caller, "agent", &card.id, &why.reason).await?;
    Ok(go(&format!("/agents/{namespace}/{name}?done=reported")))
}

/// The form Take it out.
pub async fn remove(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(why): Sent<Reason>,
) -> Result<Response> {
    agent::remove(&app, &caller, &namespace, &name, &why.reason).await?;
    Ok(go("/queue?done=removed"))
}

fn versions(details: &Details) -> Markup {
    html! {
        div.panel {
            h2 { "Versions" }
            table { tbody {
                @for v in details.versions.iter().take(12) {
                    tr {
                        td { (v.version) @if v.channel == "pre" { " " span.chip { "pre" } } }
                        td.soft { (date(v.published_at)) @if let Some(why) = &v.yank_reason { br; span.warn { "withdrawn: " (why) } } }
                    }
                }
            } }
        }
    }
}

fn reviews_of(details: &Details, reviews: &[Review], caller: Option<&Caller>, installed: Option<&Installed>) -> Markup {
    let card = &details.card;
    let total = details.histogram.iter().sum::<i64>().max(1);
    let mine = reviews.iter().find(|r| r.own);
    html! {
        section aria-labelledby="reviews" {
            h2 #reviews { "Reviews" }
            @if card.review_count > 0 {
                div.panel { div.histogram {
                    @for (i, n) in details.histogram.iter().enumerate().rev() {
                        span { (i + 1) " ★" } meter min="0" max=(total) value=(n) { (n) } span { (count(*n)) }
                    }
                } p.small.soft { (stars(card.rating)) " " (format!("{:.2}", card.rating))
                    " — the mean, drawn towards that of all agents while there are few" } }
            } @else { p.soft { "No reviews yet." } }
            @if installed.is_some() || mine.is_some() { (review_form(&card.full_name(), mine)) }
            @else if caller.is_some() { p.small.soft { "Install the agent to review it." } }
            @for review in reviews { (one_review(card, review, caller)) }
            @if let (20, Some(last)) = (reviews.len(), reviews.last()) {
                a.button.plain href={ "?after=" (last.id) "#reviews" } { "More reviews" }
            }
        }
    }
}

fn review_form(full_name: &str, mine: Option<&Review>) -> Markup {
    html! {
        details.panel open[mine.is_none()] {
            summary { @if mine.is_some() { "Change your review" } @else { "Write a review" } }
            form method="post" action={ "/agents/" (full_name) "/review" } {
                fieldset { legend.soft.small { "Stars" }
                    @for n in 1..=5 {
                        label.inline { input type="radio" name="stars" value=(n) required
                            checked[mine.is_some_and(|r| r.stars == n)]; (n) " ★" }
                    }
                }
                label { span { "What should others know?" } textarea name="text" maxlength="5000" { @if let Some(r) = mine { (r.text) } } }
                div.actions { button { "Publish review" } }
            }
            @if mine.is_some() {
                form method="post" action={ "/agents/" (full_name) "/review/delete" } { button.danger { "Delete review" } }
            }
        }
    }
}

fn one_review(card: &crate::search::Card, review: &Review, caller: Option<&Caller>) -> Markup {
    let back = format!("/agents/{}", card.full_name());
    let publisher = caller.is_some_and(|c| c.account.id == card.publisher_id);
    html! {
        article.review {
            div { (stars(review.stars as f64)) " " b { (review.author) }
                span.small.soft { " · version " (review.version) " · " (date(review.edited_at))
                    @if review.state == "hidden" { " · " span.bad { "hidden by a moderator" } } } }
            p { (review.text) }
            @if let Some(reply) = &review.reply { div.reply { b.small { "The publisher" } p { (reply) } } }
            div.actions.small {
                @if review.helpful > 0 { span.soft { (count(review.helpful)) " found this helpful" } }
                @if caller.is_some() && !review.own {
                    form method="post" action={ "/reviews/" (review.id) "/vote" } {
                        input type="hidden" name="back" value=(back); button.link { "Helpful" } }
                    details { summary { "Report" }
                        form method="post" action={ "/reviews/" (review.id) "/report" } {
                            input type="hidden" name="back" value=(back);
                            label { span { "Why?" } input name="text" required maxlength="1000"; } button.plain { "Report" } } }
                }
                @if publisher {
                    details { summary { "Reply" }
                        form method="post" action={ "/reviews/" (review.id) "/reply" } {
                            input type="hidden" name="back" value=(back);
                            textarea name="text" aria-label="Reply" { (review.reply.as_deref().unwrap_or_default()) }
                            button.plain { "Publish reply" } } }
                }
            }
        }
    }
}

/// The button Install or Upgrade.
pub async fn install(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(wanted): Sent<Wanted>,
) -> Result<Response> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    let offer = installs::install(&app, &caller, &card, &wanted).await?;
    app.catalogue.refresh().await?;
    Ok(go(&format!("/agents/{namespace}/{name}?done={}", offer.outcome)))
}

/// The form Roll back.
pub async fn rollback(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(wanted): Sent<Wanted>,
) -> Result<Response> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    installs::rollback(&app, &caller, &card, wanted.version.as_deref()).await?;
    Ok(go(&format!("/agents/{namespace}/{name}?done=rolled_back")))
}

/// The button Remove.
pub async fn uninstall(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
) -> Result<Response> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    installs::uninstall(&app, &caller, &card).await?;
    Ok(go(&format!("/agents/{namespace}/{name}?done=uninstalled")))
}

/// The form of a review.
pub async fn review(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    Sent(new): Sent<NewReview>,
) -> Result<Response> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    reviews::write(&app, &caller, &card, &new).await?;
    Ok(go(&format!("/agents/{namespace}/{name}?done=reviewed#reviews")))
}

/// The button Delete review.
pub async fn delete_review(
    State(app): State<Arc<App>>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
) -> Result<Response> {
    let card = app.catalogue.now().named(&namespace, &name)?;
    reviews::delete(&app, &caller, &card).await?;
    Ok(go(&format!("/agents/{namespace}/{name}?done=deleted#reviews")))
}

/// A vote, report or reply, and where it came from.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct OnReview {
    back: String,
    text: String,
}

/// The small forms below a review.
pub async fn on_review(
    State(app): State<Arc<App>>,
    Path((id, verb)): Path<(String, String)>,
    caller: Caller,
    Sent(form): Sent<OnReview>,
) -> Result<Response> {
    let done = match verb.as_str() {
        "vote" => reviews::vote(&app, &caller, &id, true).await.map(|()| "voted")?,
        "report" => reviews::report(&app, &caller, "review", &id, &form.text).await.map(|()| "reported")?,
        "reply" => reviews::reply(&app, &caller, &id, &form.text).await.map(|()| "saved")?,
        other => return Err(Problem::not_found(format!("a review has no '{other}'"))),
    };
    // Only to a page of ours.
    let back = if form.back.starts_with("/agents/") { form.back.as_str() } else { "/" };
    Ok(go(&format!("{back}?done={done}#reviews")))
}
