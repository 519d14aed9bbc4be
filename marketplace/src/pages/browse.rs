//! Home, categories, search.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};

use super::errors::encoded;
use super::layout::{card, count, icon, page, page_with_search};
use crate::accounts::{Address, Caller, Limit, MaybeCaller};
use crate::api::Asked;
use crate::app::App;
use crate::catalogue::{CATEGORIES, Category, collection};
use crate::problem::Result;
use crate::search::{Page, PriceFilter, Query, Sort};

/// The first page.
pub async fn home(
    State(app): State<Arc<App>>,
    MaybeCaller(caller): MaybeCaller,
    Address(address): Address,
) -> Result<Response> {
    app.limits.take(Limit::Read, &address)?;
    let some = |sort| app.catalogue.search(&Query { sort: Some(sort), per_page: Some(6), ..Query::default() });
    let (trending, installed, newest) = (some(Sort::Trending)?, some(Sort::Installs)?, some(Sort::Newest)?);
    let collections = collection::list(&app, None).await?;
    let trending_now = trending.agents.iter().any(|hit| hit.card.trending > 0.0);
    let body = html! {
        div.hero {
            h1 { "Find an agent that does the work" }
            p.soft { (count(trending.total as i64)) " agents, each read by a person before it is listed. Install with one click, go back with another." }
        }
        section aria-labelledby="categories" {
            h2 #categories { "Categories" }
            ul.grid.narrow {
                @for c in &CATEGORIES {
                    li.card.category {
                        (icon(c))
                        div {
                            h3 { a href={ "/categories/" (c.slug) } { (c.title) } }
                            span.small.soft {
                                (count(newest.facets.categories.get(c.slug).copied().unwrap_or_default() as i64)) " agents"
                            }
                        }
                    }
                }
            }
        }
        @if trending_now { (shelf("Trending this week", "/search?sort=trending", &trending)) }
        (shelf("Most installed", "/search?sort=installs", &installed))
        (shelf("New", "/search?sort=newest", &newest))
        @if !collections.is_empty() {
            section { h2 { "Collections" } ul.grid.shelf {
                @for c in collections.iter().take(6) {
                    li.card { h3 { a href={ "/collections/" (c.owner) "/" (c.slug) } { (c.title) } }
                        p { (c.description) } div.facts { span { (c.count) " agents" } } }
                }
            } }
        }
    };
    Ok(page(caller.as_ref(), "Home", body))
}

fn shelf(title: &str, more: &str, page: &Page) -> Markup {
    html! {
        section {
            div.bar { h2 { (title) } a.small href=(more) { "All" } }
            ul.grid.shelf { @for hit in &page.agents { (card(&hit.card)) } }
        }
    }
}

/// A category: its agents, with the same filters as a search.
pub async fn category(
    State(app): State<Arc<App>>,
    Path(slug): Path<String>,
    MaybeCaller(caller): MaybeCaller,
    Address(address): Address,
    Asked(query): Asked<Query>,
) -> Result<Response> {
    let category = Category::of(&slug)?;
    let query = Query { category: Some(slug), sort: query.sort.or(Some(Sort::Installs)), ..query };
    let head = html! { h1.category { (icon(category)) (category.title) } p.soft { (category.description) } };
    results(&app, caller.as_ref(), &address, &query, category.title, head)
}

/// A search.
pub async fn search(
    State(app): State<Arc<App>>,
    MaybeCaller(caller): MaybeCaller,
    Address(address): Address,
    Asked(mut query): Asked<Query>,
) -> Result<Response> {
    // An empty field of the form means no filter.
    query.category = query.category.filter(|c| !c.is_empty());
    let (title, head) = match (query.q.trim(), &query.tag) {
        ("", None) => ("All agents".to_string(), html! { h1 { "All agents" } }),
        ("", Some(tag)) => (format!("#{tag}"), html! { h1 { "#" (tag) } }),
        (q, _) => (q.to_string(), html! { h1 { "“" (q) "”" } }),
    };
    results(&app, caller.as_ref(), &address, &query, &title, head)
}

fn results(
    app: &App,
    caller: Option<&Caller>,
    address: &str,
    query: &Query,
    title: &str,
    head: Markup,
) -> Result<Response> {
    app.limits.take(Limit::Read, address)?;
    let found = app.catalogue.search(query)?;
    crate::api::searched(app, caller, address, query, found.total);
    let sort = query.sort.unwrap_or_default();
    let body = html! {
        (head)
        div.columns {
            aside aria-label="Filters" { (facets(query, &found)) }
            section aria-labelledby="results" {
                h2.unseen #results { "Results" }
                div.bar {
                    span.soft role="status" { (count(found.total as i64)) @if found.total == 1 { " agent" } @else { " agents" } }
                    form.actions action="/search" {
                        @for (name, value) in parameters(query, &["sort", "seek"]) {
                            input type="hidden" name=(name) value=(value);
                        }
                        label.inline { span.soft { "Sort" }
                            select name="sort" data-go="" {
                                @for (value, name, words) in Sort::ALL {
                                    option value=(name) selected[value == sort] { (words) }
                                }
                            }
                        }
                        noscript { button.plain { "Go" } }
                    }
                }
                @if found.agents.is_empty() {
                    div.panel { p { "Nothing fits. Take a filter away, or try other words: misspelt ones are found too." } }
                }
                ul.grid { @for hit in &found.agents { (card(&hit.card)) } }
                @if let Some(next) = &found.next {
                    p { a.button.plain rel="next" href=(address_of(query, "seek", Some(next))) { "More" } }
                }
            }
        }
    };
    Ok(page_with_search(caller, title, &query.q, body))
}

/// The search's parameters for addresses, without those in `without`.
fn parameters(query: &Query, without: &[&str]) -> Vec<(&'static str, String)> {
    let sort =
        query.sort.and_then(|s| Sort::ALL.iter().find(|(v, _, _)| *v == s)).map(|(_, name, _)| (*name).to_string());
    let all = [
        ("q", Some(query.q.clone()).filter(|q| !q.is_empty())),
        ("category", query.category.clone()),
        ("tag", query.tag.clone()),
        ("namespace", query.namespace.clone()),
        ("price", query.price.map(|p| p.name().to_string())),
        ("min_rating", query.min_rating.map(|r| r.to_string())),
        ("sort", sort),
        ("seek", query.seek.clone()),
    ];
    let set = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
    set.filter(|(name, _)| !without.contains(name)).collect()
}

/// The address of this search with one parameter changed; a filter that changes begins at the first page.
fn address_of(query: &Query, name: &'static str, value: Option<&str>) -> String {
    let mut all = parameters(query, &[name, "seek"]);
    if let Some(value) = value {
        all.push((name, value.to_string()));
    }
    let pairs: Vec<String> = all.iter().map(|(n, v)| format!("{n}={}", encoded(v))).collect();
    format!("/search?{}", pairs.join("&"))
}

fn facets(query: &Query, found: &Page) -> Markup {
    let link = |name: &'static str, value: &str, words: &str, n: usize, on: bool| {
        let to = address_of(query, name, Some(value).filter(|_| !on));
        html! { li { a.none[n == 0 && !on] href=(to) aria-current=[on.then_some("true")] {
            span { (words) @if on { " ×" } } span.count { (count(n as i64)) }
        } } }
    };
    let number = |map: &std::collections::BTreeMap<String, usize>, key: &str| map.get(key).copied().unwrap_or_default();
    let prices =
        [(PriceFilter::Free, "Free"), (PriceFilter::OneTime, "One price"), (PriceFilter::Subscription, "Subscription")];
    html! {
        details.filters open[filtered(query)] { summary.small { "Filters" }
        div.facets.open {
            div.facet { h2 { "Category" } ul {
                @for c in &CATEGORIES {
                    (link("category", c.slug, c.title, number(&found.facets.categories, c.slug),
                        query.category.as_deref() == Some(c.slug)))
                }
            } }
            div.facet { h2 { "Price" } ul {
                @for (price, words) in prices {
                    (link("price", price.name(), words, number(&found.facets.prices, price.name()), query.price == Some(price)))
                }
            } }
            div.facet { h2 { "Rating" } ul {
                @for floor in ["4", "3", "2"] {
                    (link("min_rating", floor, &format!("{floor} stars and up"), number(&found.facets.ratings, floor),
                        query.min_rating.map(|r| r.to_string()).as_deref() == Some(floor)))
                }
            } }
        } }
    }
}

fn filtered(query: &Query) -> bool {
    query.category.is_some() || query.price.is_some() || query.min_rating.is_some()
}
