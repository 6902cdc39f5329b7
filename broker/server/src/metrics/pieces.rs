//! A long text by pieces, so that nobody waits for the whole of it: neither while it is written nor while
//! it goes over the network.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

/// Octets of a piece, about: written and sent in less than a tenth of a millisecond.
const PIECE: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    whole: Vec<Bytes>,
    /// The last, which grows.
    text: String,
}

impl Pieces {
    /// Begins with this.
    pub(super) fn begin(text: String) -> Self {
        Self { whole: Vec::new(), text }
    }

    /// What to write to.
    pub(super) fn text(&mut self) -> &mut String {
        &mut self.text
    }

    /// Ends a piece that is long enough, and lets others run then.
    pub(super) async fn rest(&mut self) {
        if PIECE <= self.text.len() {
            // The next will be as long, and a little more.
            let next = String::with_capacity(PIECE + PIECE / 8);
            self.whole.push(std::mem::replace(&mut self.text, next).into());
            tokio::task::yield_now().await;
        }
    }

    /// How long it is, in octets.
    pub(crate) fn len(&self) -> usize {
        self.whole.iter().map(Bytes::len).sum::<usize>() + self.text.len()
    }

    /// As the body of an answer.
    pub(crate) fn into_body(self) -> Body {
        let pieces = stream::iter(self.whole.into_iter().chain([self.text.into()]));
        Body::from_stream(pieces.then(|piece| async {
            tokio::task::yield_now().await;
            Ok::<Bytes, Infallible>(piece)
        }))
    }

    #[cfg(test)]
    pub(super) fn concatenated(&self) -> String {
        let whole = self.whole.iter().map(|piece| std::str::from_utf8(piece).expect("text"));
        whole.chain([self.text.as_str()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn pieces_are_the_text_and_none_is_long() {
        let mut pieces = Pieces::begin("begun\n".to_owned());
        let mut expected = "begun\n".to_owned();
        for number in 0..40_000 {
            let line = format!("line {number}\n");
            pieces.text().push_str(&line);
            expected.push_str(&line);
            pieces.rest().await;
        }
        assert_eq!(pieces.concatenated(), expected);
        assert_eq!(pieces.len(), expected.len());
        let mut body = pieces.into_body();
        let mut lengths = Vec::new();
        let mut received = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            lengths.push(piece.len());
            received.extend_from_slice(&piece);
        }
        assert_eq!(received, expected.into_bytes());
        assert!(5 < lengths.len() && lengths.iter().all(|length| *length < PIECE + 20));
    }
}
