//! What was found out about a mirror registry before anything is mirrored to it: one sentence a question, with the remedy.

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As it should be.
    Good,
    /// It was not asked, since an earlier answer leaves no room for it.
    Skipped,
    /// Mirroring works, and something is worth knowing.
    Warning,
    /// Mirroring fails like this.
    Bad,
}

impl Outcome {
    /// One word that does not change between versions.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Good => "good",
            Outcome::Skipped => "skipped",
            Outcome::Warning => "warning",
            Outcome::Bad => "bad",
        }
    }
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was asked, a stable word.
    pub id: &'static str,
    /// How it was answered.
    pub outcome: Outcome,
    /// One sentence.
    pub message: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl Answer {
    /// As it should be.
    pub fn good(id: &'static str, message: impl Into<String>) -> Self {
        Answer {
            id,
            outcome: Outcome::Good,
            message: message.into(),
            remedy: String::new(),
        }
    }

    /// Not asked.
    pub fn skipped(id: &'static str, message: impl Into<String>) -> Self {
        Answer {
            outcome: Outcome::Skipped,
            ..Answer::good(id, message)
        }
    }

    /// Worth knowing.
    pub fn warning(
        id: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Answer {
            outcome: Outcome::Warning,
            remedy: remedy.into(),
            ..Answer::good(id, message)
        }
    }

    /// In the way.
    pub fn bad(id: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Answer {
            outcome: Outcome::Bad,
            ..Answer::warning(id, message, remedy)
        }
    }
}

/// Why mirroring would not even begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing could be asked: the way there is blocked, or its certificate is not trusted.
    Unreachable,
    /// It did not accept who asked.
    Authentication,
}

/// Everything that was found out about one place in a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkup {
    /// The place: `host[:port][/prefix]`.
    pub target: String,
    /// The answers, in the order of the questions.
    pub answers: Vec<Answer>,
    /// What the check left behind, a sentence each.
    pub left: Vec<String>,
    /// Why it went no further.
    pub stopped: Option<Stopped>,
}

impl Checkup {
    /// The worst of the answers.
    pub fn worst(&self) -> Outcome {
        let outcomes = self.answers.iter().map(|answer| answer.outcome);
        outcomes.max().unwrap_or(Outcome::Good)
    }
}
