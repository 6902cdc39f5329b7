//! Which messages the rules of subscriptions let through: what each filter means, in the model's words.

use super::Sent;

/// A rule of a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    /// Its own among all rules of a world.
    pub(crate) number: u64,
    pub(crate) filter: Filter,
    /// What is changed in the copy it makes for itself.
    pub(crate) action: Option<Paint>,
    /// Whether it is added and removed while messages come.
    pub(crate) comes_and_goes: bool,
}

/// A condition on a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filter {
    All,
    Nothing,
    /// Of this color.
    Color(u64),
    /// Of this color and weight.
    ColorAndWeight(u64, u64),
    /// Of this session.
    Session(u64),
    /// Of a color, but not of this one.
    OtherColor(u64),
    /// Of less weight.
    Lighter(u64),
    /// Of this color, or of at least that weight.
    ColorOrHeavy(u64, u64),
    Colorless,
    /// Twelve divided by the weight comes to three. There is no answer for what weighs nothing.
    Quarter,
}

/// What an action does, but for the mark that each leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Paint {
    Nothing,
    Color(u64),
    NoColor,
}

/// What comes of a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Yes,
    No,
    Fails,
}

impl Rule {
    pub(crate) const fn new(number: u64, filter: Filter) -> Self {
        Rule { number, filter, action: None, comes_and_goes: false }
    }

    pub(crate) const fn painting(number: u64, filter: Filter, paint: Paint) -> Self {
        Rule { action: Some(paint), ..Rule::new(number, filter) }
    }

    pub(crate) const fn fleeting(self) -> Self {
        Rule { comes_and_goes: true, ..self }
    }
}

impl Filter {
    /// What a message lacks is neither equal to something nor different from it.
    pub(super) fn answer(self, sent: &Sent) -> Answer {
        let is_true = match self {
            Filter::All => true,
            Filter::Nothing => false,
            Filter::Color(color) => sent.color == Some(color),
            Filter::ColorAndWeight(color, weight) => {
                (sent.color, sent.weight) == (Some(color), Some(weight))
            }
            Filter::Session(session) => sent.session == Some(session),
            Filter::OtherColor(color) => sent.color.is_some_and(|own| own != color),
            Filter::Lighter(weight) => sent.weight.is_some_and(|own| own < weight),
            Filter::ColorOrHeavy(color, weight) => {
                sent.color == Some(color) || sent.weight.is_some_and(|own| weight <= own)
            }
            Filter::Colorless => sent.color.is_none(),
            Filter::Quarter => match sent.weight {
                Some(0) => return Answer::Fails,
                weight => weight == Some(4),
            },
        };
        if is_true { Answer::Yes } else { Answer::No }
    }
}

impl Paint {
    /// The message as it is in the copy.
    pub(super) const fn applied(self, sent: Sent) -> Sent {
        match self {
            Paint::Nothing => sent,
            Paint::Color(color) => Sent { color: Some(color), ..sent },
            Paint::NoColor => Sent { color: None, ..sent },
        }
    }
}

/// The rule's name.
pub(crate) fn name_of(rule: u64) -> String {
    format!("rule-{rule:02}")
}

/// The property that its action leaves on a copy.
pub(crate) fn mark_of(rule: u64) -> String {
    format!("mark_{rule:02}")
}

pub(crate) fn color_name(color: u64) -> String {
    format!("color-{color}")
}
