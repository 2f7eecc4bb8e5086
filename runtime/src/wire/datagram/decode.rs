//! Bytes to datagrams. Every byte is a stranger's: nothing here panics or allocates.

use super::{
    DATA, Data, Datagram, DatagramError, HELLO, REFUSED, RETRY, SMALLEST_HELLO, SUM, Truncated,
    UNKNOWN, WELCOME,
};
use crate::wire::varint;

/// One datagram, whole.
///
/// # Errors
/// If it is not exactly one datagram of a known type, with the right sum.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> Result<Datagram<'_>, DatagramError> {
    let (summed, sum) = bytes.split_last_chunk::<SUM>().ok_or(DatagramError::Short)?;
    let (&first, rest) = summed.split_first().ok_or(DatagramError::Short)?;
    // Before the sum, so that what others send to this port costs nothing.
    if !matches!(first, HELLO..=UNKNOWN) && first != DATA {
        return Err(DatagramError::UnknownType(first));
    }
    let same = crc32c::crc32c(summed) == u32::from_be_bytes(*sum);
    if !same && !cfg_canary!("sums_are_not_checked") {
        return Err(DatagramError::Sum);
    }
    let mut content = Content { first, rest };
    if first == DATA {
        return Ok(Datagram::Data(data(content)?));
    }
    let datagram = match first {
        HELLO if bytes.len() < SMALLEST_HELLO => return Err(DatagramError::Short),
        HELLO => hello(&mut content)?,
        RETRY => Datagram::Retry { nonce: content.fixed()?, cookie: content.fixed()? },
        WELCOME => Datagram::Welcome {
            nonce: content.fixed()?,
            link: content.fixed()?,
            max_datagram: content.number()?,
            max_ack_delay_us: content.number()?,
            frame: content.last()?,
        },
        REFUSED => Datagram::Refused { nonce: content.fixed()?, frame: content.last()? },
        _ => Datagram::Unknown { link: content.fixed()? },
    };
    if content.rest.is_empty() { Ok(datagram) } else { Err(DatagramError::Long) }
}

#[inline]
fn data(mut content: Content<'_>) -> Result<Data<'_>, DatagramError> {
    let id = content.fixed()?;
    let (number, frames) = content.rest.split_first_chunk().ok_or(DatagramError::Short)?;
    Ok(Data { id, number: Truncated(u32::from_be_bytes(*number)), frames })
}

fn hello<'a>(content: &mut Content<'a>) -> Result<Datagram<'a>, DatagramError> {
    let max_datagram = content.number()?;
    let cookie = match content.take(1)? {
        [0] => None,
        [8] => Some(content.fixed()?),
        _ => return Err(DatagramError::Number(content.first)),
    };
    let length = content.number()?;
    let length = usize::try_from(length).map_err(|_| DatagramError::Short)?;
    if length == 0 {
        return Err(DatagramError::Number(content.first));
    }
    let frame = content.take(length)?;
    if content.rest.iter().all(|&byte| byte == 0) {
        content.rest = &[];
    }
    Ok(Datagram::Hello { max_datagram, cookie, frame })
}

/// What is left between the first byte and the sum.
struct Content<'a> {
    first: u8,
    rest: &'a [u8],
}

impl<'a> Content<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DatagramError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DatagramError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn fixed(&mut self) -> Result<u64, DatagramError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(DatagramError::Short)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*array))
    }

    fn number(&mut self) -> Result<u64, DatagramError> {
        match varint::get(self.rest) {
            Ok(Some((value, used))) => {
                self.rest = &self.rest[used..];
                Ok(value)
            }
            Ok(None) => Err(DatagramError::Short),
            Err(varint::NotShortest) => Err(DatagramError::Number(self.first)),
        }
    }

    /// All that is left: a frame's type and body, so not nothing.
    fn last(&mut self) -> Result<&'a [u8], DatagramError> {
        match std::mem::take(&mut self.rest) {
            [] => Err(DatagramError::Short),
            frame => Ok(frame),
        }
    }
}
