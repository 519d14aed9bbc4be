//! One mail to one reader: the headline figures as text, the report attached. Spoken over SMTP, with TLS as the URL says.

use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use millstream::{Error, Result};
use serde::Deserialize;

/// How mail leaves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `smtps://user:password@host`, `smtp://host:587?tls=required`, or `smtp://127.0.0.1:25` without TLS.
    pub url: String,
    /// Whom mails are from: `Reports <reports@example.com>`.
    pub from: String,
}

/// A mail.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    /// The reader.
    pub to: &'a str,
    /// The subject.
    pub subject: &'a str,
    /// The text.
    pub text: &'a str,
    /// Name, media type, bytes.
    pub files: &'a [(String, &'static str, Vec<u8>)],
    /// The same for the same report and reader, so that a second copy can be told.
    pub id: &'a str,
}

impl Smtp {
    /// What is wrong with the URL or the sender's address, before anything is to be sent.
    pub fn check(&self) -> Result<(), String> {
        self.transport().map(drop)?;
        self.sender().map(drop)
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&self.url);
        // The URL may hold a password: it is not repeated.
        builder.map(|b| b.build()).map_err(|e| format!("smtp.url: {e}; write smtps://user:password@host"))
    }

    fn sender(&self) -> Result<Mailbox, String> {
        let from = &self.from;
        from.parse().map_err(|e| format!("smtp.from: `{from}`: {e}; write Reports <reports@example.com>"))
    }

    /// Hands the mail to the server; an error tells what the server said.
    pub async fn send(&self, letter: &Letter<'_>) -> Result<()> {
        let message = self.message(letter)?;
        let transport = self.transport().map_err(Error::Config)?;
        let sent = transport.send(message).await;
        sent.map(drop)
            .map_err(|e| Error::Storage(format!("the mail server did not take the mail to {}: {e}", letter.to)))
    }

    fn message(&self, letter: &Letter<'_>) -> Result<Message> {
        let to: Mailbox = letter
            .to
            .parse()
            .map_err(|e| Error::Config(format!("`{}` is no mail address ({e}); write ada@example.com", letter.to)))?;
        let from = self.sender().map_err(Error::Config)?;
        let unsubscribe = format!("<mailto:{}?subject=unsubscribe>", from.email);
        let mut parts = MultiPart::mixed().singlepart(SinglePart::plain(letter.text.to_string()));
        for (name, media_type, bytes) in letter.files {
            let media_type = ContentType::parse(media_type).map_err(|e| Error::Bug(format!("{media_type}: {e}")))?;
            parts = parts.singlepart(Attachment::new(name.clone()).body(bytes.clone(), media_type));
        }
        let domain = from.email.domain().to_string();
        Message::builder()
            .message_id(Some(format!("<{}@{domain}>", letter.id)))
            .from(from)
            .to(to)
            .subject(letter.subject)
            .header(Unsubscribe(unsubscribe))
            .multipart(parts)
            .map_err(|e| Error::Bug(format!("a mail could not be written: {e}")))
    }
}

/// How a reader says that no more is wanted (RFC 2369).
#[derive(Debug, Clone)]
struct Unsubscribe(String);

impl lettre::message::header::Header for Unsubscribe {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_string()))
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_or_server_is_named_without_its_password() {
        let smtp = |url: &str, from: &str| Smtp { url: url.into(), from: from.into() }.check().unwrap_err();
        let error = smtp("mail.example.com:secret", "r@example.com");
        assert!(error.starts_with("smtp.url: ") && !error.contains("secret"), "{error}");
        let error = smtp("smtp://127.0.0.1:25", "reports at example");
        assert!(error.starts_with("smtp.from: `reports at example`"), "{error}");
    }
}
