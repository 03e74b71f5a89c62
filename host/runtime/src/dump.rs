//! Verbs on what a resource holds: dump it, restore it. Its bytes go by, and are held nowhere.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::addons::Done;
use crate::error::Result;
use crate::hook::{HookName, HookRequest};
use crate::host::Host;
use crate::id::{AddonId, Id};
use crate::stream::{Inlet, Outlet};

impl Host {
    /// Writes all that a resource holds, as its addon puts it, and flushes. Returns how many bytes that were.
    ///
    /// Only a dump that completed is one. What was written until another end is told by [`Report::stream_bytes`]; a writer
    /// that fails is a refusal with the code [`BROKEN_STREAM`]. A slow writer keeps nobody from the addon.
    ///
    /// [`Report::stream_bytes`]: crate::Report::stream_bytes
    /// [`BROKEN_STREAM`]: crate::BROKEN_STREAM
    ///
    /// # Errors
    /// As for [`Host::call`]: then nothing was written.
    pub async fn dump(
        &self,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
        to: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Done<u64>> {
        let resource = self.reference(&self.only(app, addon, alias)?)?;
        let call = self.call(addon, HookRequest::Dump(resource, Outlet::new(to))).await?;
        let bytes = call.report.stream_bytes;
        Ok(Done { changed: false, ..Done::by(HookName::Dump, call, |_| bytes) })
    }

    /// Replaces all that a resource holds by what was dumped, of this resource or another. Returns how many bytes were
    /// taken, which need not be all there are.
    ///
    /// The addon's lock is held until `from` has ended or its deadline is over. What the resource holds after another end
    /// than a completed one is for the addon to say; restoring again is the way out.
    ///
    /// # Errors
    /// As for [`Host::call`]: then nothing was read, and nothing has changed.
    pub async fn restore(
        &self,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
        from: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Done<u64>> {
        let locked = self.lock(addon).await?;
        let resource = self.reference(&self.only(app, addon, alias)?)?;
        let call = self.call_locked(&locked, HookRequest::Restore(resource, Inlet::new(from)), None).await?;
        let bytes = call.report.stream_bytes;
        Ok(Done::by(HookName::Restore, call, |_| bytes))
    }

    /// Whether [`Host::restore`] could be asked; does nothing.
    ///
    /// # Errors
    /// What it would be refused with.
    pub async fn may_restore(&self, app: &Id, addon: &AddonId, alias: Option<&Id>) -> Result<()> {
        let locked = self.lock(addon).await?;
        self.reference(&self.only(app, addon, alias)?)?;
        self.permit(&locked.addon, &locked.state, HookName::Restore)
    }
}
