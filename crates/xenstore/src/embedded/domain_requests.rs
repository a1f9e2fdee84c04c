//! Requests about domains. Most of them are allowed only to domain 0.

use super::arguments::{Arguments, domain, leading_number, number, text};
use super::caller::Caller;
use super::domain::home;
use super::quotas;
use super::store::Store;
use crate::domid::DomId;
use crate::error::ErrorCode;
use crate::features::Features;
use crate::wire::MessageKind;

type Result<T> = std::result::Result<T, ErrorCode>;

impl Store {
    pub(super) fn domain_request(
        &mut self,
        caller: &Caller,
        kind: MessageKind,
        arguments: &Arguments<'_>,
    ) -> Result<Vec<u8>> {
        let ok = || text("OK");
        match kind {
            MessageKind::GET_DOMAIN_PATH => Ok(text(home(domain(arguments.only()?)?))),
            MessageKind::IS_DOMAIN_INTRODUCED => {
                let domain = domain(arguments.only()?)?;
                let is_introduced = domain == DomId::SELF || self.is_introduced(domain);
                Ok(text(if is_introduced { 'T' } else { 'F' }))
            }
            MessageKind::INTRODUCE => {
                let (number, rest) = arguments.first_and_rest()?;
                let number = domain(number)?;
                match rest {
                    [_, port, ..]
                        if number != DomId::DOM0
                            && leading_number(port).is_some_and(|port| port > 0) => {}
                    _ => return Err(ErrorCode::EINVAL),
                }
                // Introducing a known domain again means that it was resumed, and its kernel sets
                // its watches again.
                if self.is_introduced(number) {
                    self.resume(number);
                } else {
                    self.introduce(number);
                }
                Ok(ok())
            }
            MessageKind::RELEASE => {
                let domain = self.guest(arguments.only()?)?;
                self.release(domain);
                Ok(ok())
            }
            // This affects only whether a server knows that a domain has shut down, which this
            // server never does.
            MessageKind::RESUME => self.guest(arguments.only()?).map(|_| ok()),
            MessageKind::SET_TARGET => {
                let (of, rest) = arguments.first_and_rest()?;
                let (of, target) = (domain(of)?, domain(rest.first().ok_or(ErrorCode::EINVAL)?)?);
                let exist = self.is_introduced(of) && self.is_introduced(target);
                if !exist && !self.model.is_oxenstored() {
                    return Err(ErrorCode::ENOENT);
                }
                self.domains.entry(of).or_default().target = Some(target);
                Ok(ok())
            }
            MessageKind::GET_FEATURE => match arguments.strings() {
                [] => Ok(text(self.features(caller.domain).bits())),
                // C xenstored reads no digits as 0.
                [b""] => Ok(text(self.features(DomId::DOM0).bits())),
                [of] => Ok(text(self.features(domain(of)?).bits())),
                _ => Err(ErrorCode::EINVAL),
            },
            MessageKind::SET_FEATURE => {
                let [of, features] = arguments.all()?;
                let (of, features) = (domain(of)?, Features::from_bits(number(features)?));
                if self.is_introduced(of) {
                    return Err(ErrorCode::EBUSY);
                }
                if !self.model.features().contains(features) {
                    return Err(ErrorCode::EINVAL);
                }
                self.domains.entry(of).or_default().features = Some(features);
                Ok(ok())
            }
            MessageKind::GET_QUOTA => match arguments.strings() {
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
            MessageKind::SET_QUOTA => {
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
                Ok(ok())
            }
            _ => Err(ErrorCode::ENOSYS),
        }
    }

    /// Parses the number of an introduced domain other than domain 0.
    fn guest(&self, number: &[u8]) -> Result<DomId> {
        match domain(number)? {
            domain if domain != DomId::DOM0 && self.is_introduced(domain) => Ok(domain),
            // The servers have these two errors the other way round.
            DomId::DOM0 if !self.model.is_oxenstored() => Err(ErrorCode::EINVAL),
            domain if domain != DomId::DOM0 && self.model.is_oxenstored() => Err(ErrorCode::EINVAL),
            _ => Err(ErrorCode::ENOENT),
        }
    }

    /// Returns the features that the server offers to a domain.
    pub(super) fn features(&self, domain: DomId) -> Features {
        self.domains
            .get(&domain)
            .and_then(|state| state.features)
            .unwrap_or(self.model.features())
    }
}
