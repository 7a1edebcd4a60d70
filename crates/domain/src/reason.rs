//! Why a bot ended or an attempt failed.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One word of an open list that is part of the API. A reader tolerates words it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reason(Cow<'static, str>);

macro_rules! reasons {
    ($($name:ident = $word:literal, $advice:literal;)*) => {
        impl Reason {
            $(#[doc = $advice] pub const $name: Self = Self(Cow::Borrowed($word));)*

            /// Every reason Greenroom itself gives, each with what a user can do. `docs/reasons.md` is made of it.
            pub const KNOWN: &[(&str, &str)] = &[$(($word, $advice)),*];
        }
    };
}

reasons! {
    QUEUE_TIMEOUT = "queue_timeout", "No platform had room before the deadline: raise the time-out, a limit, or the priority.";
    NO_CAPACITY = "no_capacity", "The platform had no room for the runner: add capacity or another platform to the chain.";
    DEPLOY_FAILED = "deploy_failed", "The platform could not start the runner: see the platform's message in the timeline.";
    DEPLOY_TIMEOUT = "deploy_timeout", "The platform did not start the runner in time: look at the platform, or at the image's size.";
    REJECTED = "rejected", "The platform refused the runner for good: correct the image, the resources or the settings named in the timeline.";
    UNAUTHORIZED = "unauthorized", "The platform refused our credentials: renew them in the platform's settings.";
    QUOTA = "quota", "The platform's quota is used up: raise it, or lower the platform's limit to what it admits.";
    UNSCHEDULABLE = "unschedulable", "No machine of the platform can take the runner: add machines, or ask for less.";
    IMAGE_UNAVAILABLE = "image_unavailable", "The image cannot be had: look at its name, its tag and the registry's credentials.";
    EVICTED = "evicted", "The platform needed the runner's machine for something else: look at that machine's memory and disk.";
    INTERRUPTED = "interrupted", "The platform took back capacity that was only lent (Spot): ask for other capacity where that hurts.";
    HEARTBEAT_LOST = "heartbeat_lost", "The runner fell silent and did not come back: look at its host, and at its logs where its platform keeps them.";
    OUT_OF_MEMORY = "out_of_memory", "The runner needed more memory than it had: raise its memory limit.";
    RUNNER_CRASHED = "runner_crashed", "The runner ended without saying why: see its logs, where its platform keeps them.";
    BROWSER_FAILED = "browser_failed", "The browser did not start or died: see the runner's logs, where its platform keeps them.";
    JOIN_TIMEOUT = "join_timeout", "The runner did not reach the meeting in time: look at the last screenshot.";
    WAITING_ROOM_TIMEOUT = "waiting_room_timeout", "Nobody admitted the bot: ask the host, or raise automaticLeave.waitingRoomTimeoutMs.";
    JOIN_DENIED = "join_denied", "The host turned the bot away.";
    MEETING_NOT_FOUND = "meeting_not_found", "There is no such meeting: check the address.";
    WRONG_PASSWORD = "wrong_password", "The meeting wants another password. (No adapter gives this yet.)";
    SIGN_IN_REQUIRED = "sign_in_required", "The meeting admits only signed-in guests: let guests in, or give the bot an account.";
    CAPTCHA = "captcha", "The provider asked for proof of being human: try later or from another network. (No adapter gives this yet.)";
    PAGE_UNREACHABLE = "page_unreachable", "The meeting's page could not be loaded, or did not let the bot ask to join: check the address and the runner's network.";
    ADDRESS_REFUSED = "address_refused", "The meeting's page is, or led to, an address inside the network, or its address does not begin with http:// or https://: use a public address, or have an operator allow that network (MEETING_ADDRESSES_ALLOWED).";
    PAGE_UNRESPONSIVE = "page_unresponsive", "The meeting's page stopped responding: look at the last screenshot, and whether the runner has enough processor time.";
    RECORDING_FAILED = "recording_failed", "The bot was in the meeting and could not record it: see the runner's logs, where its platform keeps them.";
    RUNNER_FAILED = "runner_failed", "The runner could not work where it runs, for want of disk space for example: see the timeline and the runner's logs.";
    ORPHANED = "orphaned", "The runner could not reach Greenroom for too long and left: check the way from the runners to RUNNER_GATEWAY_URL.";
    PROVIDER_UNSUPPORTED = "provider_unsupported", "This image cannot join meetings of that provider: set the provider's image.";
    MISSED_START = "missed_start", "The meeting was over, or likely to be (MISSED_START_MS), before the bot could start.";
    CONCURRENCY_LIMIT = "concurrency_limit", "As many of the tenant's bots are (or were) under way as it may have at a time: wait for one to end, cancel one, or have the limit raised.";
    MAX_DURATION = "max_duration", "The bot reached the longest time it may stay.";
    END_TIME = "end_time", "The bot's endTime came.";
    MEETING_ENDED = "meeting_ended", "The host ended the meeting.";
    EVERYONE_LEFT = "everyone_left", "Everybody else had left.";
    NO_ONE_JOINED = "no_one_joined", "Nobody else came.";
    INACTIVITY = "inactivity", "Nothing was heard for a long time.";
    LEAVE_REQUESTED = "leave_requested", "You asked the bot to leave.";
    CANCEL_REQUESTED = "cancel_requested", "You cancelled the bot.";
    FORCED = "forced", "An operator ended the bot.";
    RESTART_REQUESTED = "restart_requested", "An operator had the bot's runner replaced; the bot goes on with its next attempt.";
    TERMINATED = "terminated", "The platform asked the runner to stop.";
}

impl Reason {
    /// Reasons for which a bot leaves its meeting that are not failures.
    const ENDS: [Self; 8] = [
        Self::MAX_DURATION,
        Self::END_TIME,
        Self::MEETING_ENDED,
        Self::EVERYONE_LEFT,
        Self::NO_ONE_JOINED,
        Self::INACTIVITY,
        Self::LEAVE_REQUESTED,
        Self::TERMINATED,
    ];

    /// Whether a bot that leaves its meeting for this reason leaves it in good order.
    #[must_use]
    pub fn is_end(&self) -> bool {
        Self::ENDS.contains(self)
    }

    /// Whether it is a reason of Greenroom's own that says that something failed. An unknown word may mean anything.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !self.is_end() && Self::KNOWN.iter().any(|(word, _)| *word == self.0)
    }

    /// Any word; what a runner of another make says is kept as it is, cut to 64 characters of `[a-z0-9_]`.
    #[must_use]
    pub fn open(word: &str) -> Self {
        let word: String = word
            .chars()
            .take(64)
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' })
            .collect();
        match Self::KNOWN.iter().find(|(known, _)| *known == word) {
            Some((known, _)) => Self(Cow::Borrowed(known)),
            None if word.is_empty() => Self::RUNNER_CRASHED,
            None => Self(Cow::Owned(word)),
        }
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a user can do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Self::KNOWN.iter().find(|(word, _)| *word == self.0).map(|(_, advice)| *advice)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_have_advice_and_are_told_once() {
        let mut words: Vec<_> = Reason::KNOWN.iter().map(|(word, _)| word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::KNOWN.len());
        assert_eq!(Reason::open("captcha"), Reason::CAPTCHA);
        assert!(Reason::CAPTCHA.advice().is_some());
    }

    #[test]
    fn an_unknown_word_is_neither_an_end_nor_a_failure() {
        let unknown = Reason::open("host_pulled_the_plug");
        for (reason, end, failure) in
            [(Reason::MEETING_ENDED, true, false), (Reason::JOIN_DENIED, false, true), (unknown, false, false)]
        {
            assert_eq!((reason.is_end(), reason.is_failure()), (end, failure), "{reason}");
        }
    }

    #[test]
    fn unknown_words_are_kept_and_made_harmless() {
        assert_eq!(Reason::open("Host Said: No!").as_str(), "host_said__no_");
        assert_eq!(Reason::open("").as_str(), "runner_crashed");
        assert_eq!(Reason::open("x").advice(), None);
    }
}
