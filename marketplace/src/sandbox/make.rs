//! What calls make: checkout sessions, accounts, links, refunds, changes of subscriptions.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Inside, number};
use crate::problem::{Problem, Result};

/// The fields of a call.
pub(super) struct Form<'a>(pub &'a HashMap<String, String>);

impl Form<'_> {
    fn may(&self, name: &str) -> Option<&String> {
        self.0.get(name)
    }

    fn text(&self, name: &str) -> Result<&String> {
        self.may(name).ok_or_else(|| Problem::invalid(format!("Missing required param: {name}.")))
    }

    fn number(&self, name: &str) -> Result<i64> {
        self.text(name)?.parse().map_err(|_| Problem::invalid(format!("Invalid integer: {name}")))
    }
}

impl Inside {
    /// Makes or does what is posted to `/v1/{path}`.
    pub(super) fn create(&mut self, path: &str, form: &HashMap<String, String>) -> Result<Value> {
        let form = Form(form);
        match path {
            "checkout/sessions" => self.session(&form),
            "accounts" => {
                let id = self.id("acct");
                let account =
                    json!({ "id": id, "object": "account", "type": form.text("type")?, "charges_enabled": false });
                self.objects.insert(id, account.clone());
                Ok(account)
            }
            "account_links" => {
                let (account, back) = (form.text("account")?, form.text("return_url")?);
                if let Some(object) = self.objects.get_mut(account) {
                    object["_back"] = json!(back);
                }
                Ok(json!({ "object": "account_link", "url": format!("{}/connect/{account}", self.url) }))
            }
            "refunds" => self.refund(&form),
            path => match path.strip_prefix("subscriptions/") {
                Some(id) => {
                    let ends = form.text("cancel_at_period_end")? == "true";
                    self.change(id, &[("/cancel_at_period_end", json!(ends))], "customer.subscription.updated")
                }
                None => Err(Problem::not_found(format!("Unrecognized request URL (POST: /v1/{path})."))),
            },
        }
    }

    fn session(&mut self, form: &Form<'_>) -> Result<Value> {
        let (amount, quantity) =
            (form.number("line_items[0][price_data][unit_amount]")?, form.number("line_items[0][quantity]")?);
        for which in ["payment_intent_data", "subscription_data"] {
            let to = form.may(&format!("{which}[transfer_data][destination]"));
            let takes = |to: &String| self.objects.get(to).is_some_and(|account| account["charges_enabled"] == true);
            if to.is_some_and(|to| !takes(to)) {
                return Err(Problem::invalid("The destination account cannot take charges."));
            }
        }
        let id = self.id("cs");
        let session = json!({ "id": id, "object": "checkout.session", "mode": form.text("mode")?, "status": "open",
            "payment_status": "unpaid", "client_reference_id": form.may("client_reference_id"),
            "amount_total": amount * quantity, "currency": form.text("line_items[0][price_data][currency]")?,
            "success_url": form.text("success_url")?, "url": format!("{}/pay/{id}", self.url),
            "payment_intent": null, "subscription": null, "_back": form.text("cancel_url")?,
            "_order": form.may("subscription_data[metadata][order_id]"), "_seats": quantity, "_unit": amount,
            "_trial": form.may("subscription_data[trial_period_days]") });
        self.objects.insert(id, session.clone());
        Ok(session)
    }

    fn refund(&mut self, form: &Form<'_>) -> Result<Value> {
        let (intent, amount) = (form.text("payment_intent")?, form.number("amount")?);
        let mut charge = self.object(intent)?;
        let refunded = number(&charge, "/amount_refunded") + amount;
        if refunded > number(&charge, "/amount") {
            return Err(Problem::invalid("Refund amount is greater than unrefunded amount on charge."));
        }
        charge["amount_refunded"] = json!(refunded);
        self.objects.insert(intent.clone(), charge.clone());
        self.event("charge.refunded", &charge, None);
        Ok(json!({ "id": self.id("re"), "object": "refund", "amount": amount, "status": "succeeded" }))
    }
}
