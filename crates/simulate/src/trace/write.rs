//! Writing a trace as CSV.

use std::io::Write;

use jiff::tz::TimeZone;

use super::{Trace, TraceError};

impl Trace {
    /// Writes it as it can be read again, with times as they are in a time zone.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn write(&self, to: impl Write, zone: &TimeZone) -> Result<(), TraceError> {
        let mut writer = csv::Writer::from_writer(to);
        writer.write_record(["start", "end", "provider", "tenant", "plan", "priority", "created", "no_show"])?;
        let local = |at: jiff::Timestamp| at.display_with_offset(zone.to_offset(at)).to_string();
        for meeting in &self.meetings {
            let priority = meeting.priority.map(|priority| priority.to_string()).unwrap_or_default();
            writer.write_record([
                local(meeting.start).as_str(),
                &local(meeting.end),
                meeting.provider.as_str(),
                &self.tenants[meeting.tenant],
                meeting.plan.as_str(),
                &priority,
                &meeting.created.map(local).unwrap_or_default(),
                if meeting.no_show { "true" } else { "" },
            ])?;
        }
        writer.flush().map_err(|error| csv::Error::from(error).into())
    }
}
