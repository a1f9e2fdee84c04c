//! Requests about domains, most of them for domain 0 only.

use super::asker::Asker;
use super::domains::home;
use super::quotas;
use super::requests::{Arguments, leading_number, text};
use super::store::Store;
use crate::error::ErrorCode;
use crate::permission::DomId;
use crate::wire::Kind;

type Result<T> = std::result::Result<T, ErrorCode>;

/// The features that `GET_FEATURE` knows: C xenstored's, less what only newer versions have. The one bit says that the
/// server tells errors in the page it shares with a guest.
const FEATURES: u32 = 2;

/// The number by which a domain may mean itself (`DOMID_SELF`).
const DOMID_SELF: DomId = 0x7ff0;

impl Store {
    pub(super) fn about_domains(
        &mut self,
        asker: &Asker,
        kind: Kind,
        arguments: &Arguments<'_>,
    ) -> Result<Vec<u8>> {
        let done = |()| b"OK\0".to_vec();
        match kind {
            Kind::GET_DOMAIN_PATH => Ok(text(home(domain(arguments.only()?)?))),
            Kind::IS_DOMAIN_INTRODUCED => {
                let domain = domain(arguments.only()?)?;
                let is_introduced = domain == DOMID_SELF || self.is_introduced(domain);
                Ok(text(if is_introduced { 'T' } else { 'F' }))
            }
            Kind::INTRODUCE => {
                let (number, rest) = arguments.first_and_rest()?;
                let number = domain(number)?;
                match rest {
                    [_, port, ..]
                        if number != 0 && leading_number(port).is_some_and(|port| port > 0) => {}
                    _ => return Err(ErrorCode::EINVAL),
                }
                // A domain that is introduced again was resumed, and its kernel sets its watches anew.
                if self.is_introduced(number) {
                    self.resume(number);
                } else {
                    self.introduce(number);
                }
                Ok(done(()))
            }
            Kind::RELEASE => {
                let domain = self.guest(arguments.only()?)?;
                self.release(domain);
                Ok(done(()))
            }
            // It concerns only what a server knows of a domain's having shut down, and this one knows nothing of that.
            Kind::RESUME => self.guest(arguments.only()?).map(|_| done(())),
            Kind::SET_TARGET => {
                let (of, rest) = arguments.first_and_rest()?;
                let (of, target) = (domain(of)?, domain(rest.first().ok_or(ErrorCode::EINVAL)?)?);
                if !self.is_introduced(of) || !self.is_introduced(target) {
                    return Err(ErrorCode::ENOENT);
                }
                self.domains.entry(of).or_default().target = Some(target);
                Ok(done(()))
            }
            Kind::GET_FEATURE => match arguments.optional() {
                [] => Ok(text(self.features(asker.domain))),
                [of] => Ok(text(self.features(domain(of)?))),
                _ => Err(ErrorCode::EINVAL),
            },
            Kind::SET_FEATURE => {
                let [of, features] = arguments.all()?;
                let (of, features) = (domain(of)?, number(features)?);
                if self.is_introduced(of) {
                    return Err(ErrorCode::EBUSY);
                }
                if features & !FEATURES != 0 {
                    return Err(ErrorCode::EINVAL);
                }
                self.domains.entry(of).or_default().features = Some(features);
                Ok(done(()))
            }
            Kind::GET_QUOTA => match arguments.optional() {
                [] => Ok(text(quotas::NAMES.join(" "))),
                [name] => self
                    .quotas
                    .clone()
                    .by_name(name)
                    .map(text)
                    .ok_or(ErrorCode::EINVAL),
                [of, name] => self
                    .quotas_of(domain(of)?)
                    .clone()
                    .by_name(name)
                    .map(text)
                    .ok_or(ErrorCode::EINVAL),
                _ => Err(ErrorCode::EINVAL),
            },
            Kind::SET_QUOTA => {
                let (quotas, name, value) = match arguments.strings() {
                    [name, value] => (&mut self.quotas, name, value),
                    [of, name, value] => {
                        let global = self.quotas.clone();
                        (
                            self.domains
                                .entry(domain(of)?)
                                .or_default()
                                .quotas
                                .get_or_insert(global),
                            name,
                            value,
                        )
                    }
                    _ => return Err(ErrorCode::EINVAL),
                };
                *quotas.by_name(name).ok_or(ErrorCode::EINVAL)? = number(value)? as usize;
                Ok(done(()))
            }
            _ => Err(ErrorCode::ENOSYS),
        }
    }

    /// The number of an introduced domain that is not domain 0.
    fn guest(&self, number: &[u8]) -> Result<DomId> {
        match domain(number)? {
            0 => Err(ErrorCode::EINVAL),
            domain if self.is_introduced(domain) => Ok(domain),
            _ => Err(ErrorCode::ENOENT),
        }
    }

    fn features(&self, domain: DomId) -> u32 {
        self.domains
            .get(&domain)
            .and_then(|known| known.features)
            .unwrap_or(FEATURES)
    }
}

fn number(text: &[u8]) -> Result<u32> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ErrorCode::EINVAL)
}

fn domain(text: &[u8]) -> Result<DomId> {
    number(text)?.try_into().map_err(|_| ErrorCode::EINVAL)
}
