//! [`Listing`]: what a caller may see of this peer's files, one after another, as it is at the moment each is told.

use std::vec;

use content::ContentId;
use wire::proto;

use crate::{
    service::{Portion, Service, Standing},
    tls::Caller,
};

/// Names in one look at the library; so many at most are in memory for one caller.
pub(super) const LIST_PAGE: usize = 256;

/// The files, for a caller that takes them at its own pace.
pub(super) struct Listing {
    service: Service,
    caller: Caller,
    page: vec::IntoIter<proto::File>,
    /// Where the next page begins; `None` after the last.
    next: Option<Option<(String, ContentId)>>,
    standing: Standing,
    _place: Portion,
}

impl Listing {
    pub(super) fn new(service: &Service, caller: Caller, place: Portion) -> Self {
        let standing = service.standing(&caller, Vec::new());
        let (service, page) = (service.clone(), Vec::new().into_iter());
        Self { service, caller, page, next: Some(None), standing, _place: place }
    }

    /// Who was taken off a list since the page was read is not told the rest of it.
    fn forget_hidden(&mut self) {
        let (service, caller) = (&self.service, &self.caller);
        let may_have = |file: &proto::File| {
            ContentId::try_from(file.content_id.as_ref()).is_ok_and(|id| service.may_have(caller, id).is_ok())
        };
        let page: Vec<_> = self.page.by_ref().filter(may_have).collect();
        self.page = page.into_iter();
    }
}

impl Iterator for Listing {
    type Item = proto::File;

    fn next(&mut self) -> Option<proto::File> {
        loop {
            if self.standing.has_changed() {
                self.forget_hidden();
            }
            if let Some(file) = self.page.next() {
                return Some(file);
            }
            let page = self.service.list(&self.caller, self.next.take()?, LIST_PAGE);
            self.page = page.files.into_iter();
            self.next = page.next.map(Some);
        }
    }
}
