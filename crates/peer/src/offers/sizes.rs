//! Holding an accepted offer to the size that it named: who said yes to a note does not get a film.
//!
//! The size of a content is known for sure only when its proof is here, which is after the offer was accepted. So the
//! download is watched until then, and ended if it is another one. Downloads that ran before the offer was accepted
//! are the user's own and are left alone.

use std::collections::HashMap;

use daemon::Lifecycle;
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};
use wire::rest::pclient::{Download, DownloadState, Event, OfferDirection, OfferState};

use super::Offers;
use crate::store::offers::{self as table, OfferRow};

/// Offers that are looked at in one go at the start.
const PAGE: usize = 500;

/// The downloads whose size is not known yet, and the offers behind them.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    expected: Mutex<HashMap<String, OfferRow>>,
}

/// Follows the downloads of accepted offers.
pub(super) fn spawn(offers: &Offers, lifecycle: &Lifecycle) {
    let (offers, soft) = (offers.clone(), lifecycle.soft());
    let events = offers.parts().downloads.subscribe();
    lifecycle.spawn("sizes of what was offered", async move {
        soft.run_until_cancelled(follow(&offers, events)).await;
    });
}

/// The offer as it ends when its file turns out to have `size` bytes.
pub(super) fn refused(row: &OfferRow, size: u64) -> OfferRow {
    metrics::counter!("trueque_refusals_total", "reason" => "size of an offer").increment(1);
    OfferRow { state: OfferState::Declined, why: Some(another(row, size)), ..row.clone() }
}

/// What is to be said of a file that has another size than its offer.
pub(super) fn another(row: &OfferRow, size: u64) -> String {
    format!("the file has {size} bytes, and {} were offered", row.size)
}

async fn follow(offers: &Offers, mut events: broadcast::Receiver<Event>) {
    offers.expect_sizes_of_before().await;
    loop {
        match events.recv().await {
            Ok(Event::Download(download)) => offers.looked(&download).await,
            Ok(Event::DownloadRemoved { id }) => offers.forget_size(&id),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => offers.look_at_all().await,
            Err(RecvError::Closed) => return,
        }
    }
}

impl Offers {
    /// Watches the download of an offer that was just accepted.
    pub(super) async fn expect_size(&self, accepted: &OfferRow) {
        let Some(id) = &accepted.download_id else { return };
        self.inner.sizes.expected.lock().insert(id.clone(), accepted.clone());
        // It may have been known before anybody listened for it.
        self.look_at(id).await;
    }

    pub(super) async fn drop_download(&self, download: &Download) {
        // A finished file is the user's; the bytes are those of the content id, whatever was said of their number.
        if download.state != DownloadState::Done
            && let Err(failure) = self.parts().downloads.cancel(&download.id).await
        {
            tracing::warn!(error = %failure, "the download of an offer with a wrong size could not be cancelled");
        }
    }

    async fn expect_sizes_of_before(&self) {
        let mut after = None;
        loop {
            let page =
                |c: &_| table::page(c, OfferDirection::Received, Some(OfferState::Accepted), after, PAGE);
            let Ok(rows) = self.parts().store.read(page) else { return };
            let Some(last) = rows.last() else { return };
            after = Some(last.seq);
            for row in rows {
                let known = row.download_id.as_deref().and_then(|id| self.parts().downloads.get(id));
                // One whose size was known when the last run ended was looked at by it.
                if known.is_some_and(|download| download.size.is_none()) {
                    self.expect_size(&row).await;
                }
            }
        }
    }

    async fn look_at_all(&self) {
        let ids: Vec<String> = self.inner.sizes.expected.lock().keys().cloned().collect();
        for id in ids {
            self.look_at(&id).await;
        }
    }

    async fn look_at(&self, id: &str) {
        match self.parts().downloads.get(id) {
            Some(download) => self.looked(&download).await,
            None => self.forget_size(id),
        }
    }

    async fn looked(&self, download: &Download) {
        let Some(size) = download.size else { return };
        let Some(row) = self.inner.sizes.expected.lock().remove(&download.id) else { return };
        if size == row.size {
            return;
        }
        tracing::warn!(content.id = %row.content_id, size_bytes = size, offered_bytes = row.size,
            "an offer named a wrong size; its download ends");
        self.drop_download(download).await;
        if let Err(failure) = self.advance(&row, refused(&row, size)).await {
            tracing::warn!(error = %failure, "an offer with a wrong size could not be ended");
        }
    }

    fn forget_size(&self, id: &str) {
        self.inner.sizes.expected.lock().remove(id);
    }
}
