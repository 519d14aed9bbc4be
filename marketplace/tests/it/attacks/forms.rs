//! Every form of every page, sent from another site and by another account.

use std::collections::BTreeSet;

use super::{World, without_counts};
use crate::payments::Shop;

/// A form of a page, with fields as a browser would send them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Form {
    action: String,
    fields: Vec<(String, String)>,
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let at = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = tag.get(at..)?.split('"').next()?;
    Some(value.replace("&amp;", "&"))
}

/// The forms of a page that change something.
fn forms(html: &str) -> Vec<Form> {
    let forms = html.split("<form").skip(1).map(|f| f.split("</form>").next().unwrap());
    let posts = forms.filter(|f| f.split('>').next().unwrap().contains("method=\"post\""));
    let form = |f: &str| {
        let fields =
            f.split('<').filter(|t| ["input", "select", "textarea", "button"].iter().any(|n| t.starts_with(n)));
        let field = |tag: &str| {
            let tag = tag.split('>').next().unwrap();
            Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_else(|| "1.0.0".to_string())))
        };
        Form { action: attribute(f, "action").unwrap(), fields: fields.filter_map(field).collect() }
    };
    posts.map(form).collect()
}

/// Pages that have forms for somebody.
const PAGES: [&str; 13] = [
    "/",
    "/agents/acme/linter",
    "/agents/acme/tester",
    "/collections/ada/mine",
    "/sign-in",
    "/sign-up",
    "/account",
    "/account/plan",
    "/publish",
    "/publish/agents/acme/linter",
    "/dashboard",
    "/queue",
    "/CHECKOUT",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_form_can_be_sent_from_another_site_or_by_another_account() {
    let world = World::new().await;
    let Shop { market, acme, ada, mo, .. } = &world.shop;
    let bob = market.again("bob").await;
    let checkout = format!("/checkout/{}", world.ids["orders"]);
    let mut all = BTreeSet::new();
    for person in [acme, ada, mo, &bob, &market.stranger()] {
        for page in PAGES {
            let path = if page == "/CHECKOUT" { &checkout } else { page };
            all.extend(forms(&person.page(path).await.text));
        }
    }
    let kinds: BTreeSet<String> = all.iter().map(|f| f.action.replace(|c: char| c.is_ascii_digit(), "")).collect();
    println!("{} forms with {} kinds of address", all.len(), kinds.len());
    for action in [
        "/sign-in",
        "/sign-up",
        "/sign-out",
        "/agents/acme/linter/install",
        "/agents/acme/linter/uninstall",
        "/agents/acme/linter/review",
        "/agents/acme/linter/review/delete",
        "/agents/acme/linter/buy",
        "/agents/acme/linter/report",
        "/agents/acme/linter/remove",
        "/collections/ada/mine/install",
        "/collections/ada/mine/follow",
        "/account/password",
        "/account/publisher",
        "/account/tokens",
        "/account/collections",
        "/account/plan",
        "/account/seats",
        "/publish",
        "/publish/namespaces",
        "/publish/agents/acme/linter",
        "/publish/agents/acme/linter/yank",
        "/publish/agents/acme/linter/price",
        "/dashboard/connect",
    ] {
        assert!(all.iter().any(|f| f.action == action), "no page has the form {action}: {kinds:?}");
    }
    for prefix in ["/account/tokens/", "/account/orders/", "/queue/", "/reports/", "/reviews/", "/dashboard/orders/"] {
        assert!(all.iter().any(|f| f.action.starts_with(prefix)), "no page has a form {prefix}...: {kinds:?}");
    }
    let before = world.state().await;
    for form in &all {
        for person in [acme, ada, mo] {
            for (name, value) in
                [("sec-fetch-site", "cross-site"), ("origin", "null"), ("origin", "http://evil.example")]
            {
                let request = person.client.post(format!("{}{}", market.url, form.action));
                let request = request.header("cookie", person.cookie()).header(name, value);
                let request = request.header("accept", "text/html");
                let request = request.header("content-type", "application/x-www-form-urlencoded").body("x=y");
                person.run(request).await.refused(403, "does not come from a page of this marketplace");
            }
        }
    }
    assert_eq!(world.state().await, before, "from another site");
    // The same forms filled in, by an account that they were not made for. Votes and reports are for all.
    for form in all.iter().filter(|f| !f.action.starts_with("/reviews/") && f.action != "/sign-out") {
        let fields: Vec<(&str, &str)> = form.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let answer = world.evil.form(&form.action, &fields).await;
        assert!(answer.status.as_u16() < 500, "{}: {}", form.action, answer.text);
        let told = answer.text.replace("evil@example.org", "");
        let leaked: Vec<_> = world.secrets.iter().filter(|secret| told.contains(secret.as_str())).collect();
        assert!(leaked.is_empty() || form.action.contains(leaked[0].as_str()), "{} tells {leaked:?}", form.action);
    }
    assert_eq!(without_counts(world.state().await), without_counts(before), "by another account");
}
