//! Orders, their lines, the stock, and the webhooks that came. With `writer.rs` the only file that names a database.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub use super::records::{
    Armed, Counts, Line, Listing, Millis, Order, Paid, Placed, Product, Status, TimedOut, WebhookEvent,
};
use super::{sql, writer::Writer};

/// Which orders need arming: those not armed though created before `created_before`; those not confirmed since
/// `unconfirmed_since` and not due by `not_due_by`; those due before `overdue_since` and last armed before it.
#[derive(Clone, Copy, Debug)]
pub struct ToArm {
    pub created_before: Millis,
    pub unconfirmed_since: Millis,
    pub not_due_by: Millis,
    pub overdue_since: Millis,
}

/// The clocks of the machines that run this service differ by less; an event so much ahead of a deadline is on time.
const CLOCK_SKEW_MS: Millis = 1000;

/// The service's database; clones are the same one.
#[derive(Clone)]
pub struct Database {
    writer: Arc<Writer>,
}

impl Database {
    /// Opens the file and makes what tables are missing.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(path).with_context(|| format!("opening {}", path.display()))?;
        // These lines and `writer.rs` are all that is SQLite's own. An order that was
        // answered for is on disk: synchronous=FULL.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // Savepoints spill into temporary files, and a container may have no place for them.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.set_prepared_statement_cache_capacity(64);
        for statement in sql::SCHEMA {
            connection.execute(statement, []).context("making the tables")?;
        }
        Ok(Self { writer: Arc::new(Writer::start(connection)?) })
    }

    /// Puts a product on the shelf, unless it is there.
    pub async fn add_product(&self, sku: &str, name: &str, available: u32) -> anyhow::Result<()> {
        let (sku, name) = (sku.to_owned(), name.to_owned());
        self.writer
            .run(move |it| {
                it.execute(sql::ADD_PRODUCT, params![sku, name, available])?;
                Ok(())
            })
            .await
    }

    /// Stores the order and takes its stock, or changes nothing.
    pub async fn place(&self, id: &str, mut lines: Vec<Line>, now: Millis, deadline: Millis) -> anyhow::Result<Placed> {
        let id = id.to_owned();
        // In one order everywhere, so that two orders never wait for each other's rows.
        lines.sort_by(|a, b| a.sku.cmp(&b.sku));
        self.writer
            .run(move |outer| {
                // Dropped, it takes back what was done for lines that were there.
                let it = outer.savepoint()?;
                it.prepare_cached(sql::ADD_ORDER)?.execute(params![id, now, deadline])?;
                for line in &lines {
                    if it.prepare_cached(sql::TAKE_STOCK)?.execute(params![line.quantity, line.sku])? == 0 {
                        let known: i64 = it.query_row(sql::PRODUCT_EXISTS, [&line.sku], |row| row.get(0))?;
                        let sku = line.sku.clone();
                        return Ok(if known > 0 { Placed::OutOfStock(sku) } else { Placed::UnknownProduct(sku) });
                    }
                    it.prepare_cached(sql::ADD_LINE)?.execute(params![id, line.sku, line.quantity])?;
                }
                it.commit()?;
                Ok(Placed::Stored)
            })
            .await
    }

    /// Pays the order if it is unpaid and not due: the one place where that is decided.
    pub async fn pay(&self, id: &str, now: Millis) -> anyhow::Result<Paid> {
        let id = id.to_owned();
        self.writer
            .run(move |it| {
                if it.prepare_cached(sql::PAY)?.execute(params![now, id])? == 1 {
                    return Ok(Paid::Now);
                }
                Ok(find(it, &id)?.map_or(Paid::UnknownOrder, |order| Paid::No(order.status)))
            })
            .await
    }

    /// A webhook says that the order's key has expired: if it is still unpaid, cancels it and puts its stock back.
    /// The second value: whether this event has come before; then nothing changes and the first outcome is told.
    pub async fn time_out(
        &self,
        event: &str,
        id: &str,
        evidence: Option<&str>,
        now: Millis,
    ) -> anyhow::Result<(TimedOut, bool)> {
        let (event, id, evidence) = (event.to_owned(), id.to_owned(), evidence.map(str::to_owned));
        // Where several write at once, the same event may come twice at once; the loser fails on the primary key, which
        // undoes its part, and the sender's next attempt finds the row.
        self.writer
            .run(move |it| {
                if it.prepare_cached(sql::REPEATED)?.execute([&event])? == 1 {
                    let outcome: String = it.query_row(sql::EVENT, [&event], |row| row.get(0))?;
                    return Ok((TimedOut::parse(&outcome)?, true));
                }
                let outcome = if it.prepare_cached(sql::CANCEL)?.execute(params![now, id, now + CLOCK_SKEW_MS])? == 1 {
                    for line in lines(it, &id)? {
                        it.prepare_cached(sql::PUT_BACK)?.execute(params![line.quantity, line.sku])?;
                    }
                    TimedOut::Cancelled
                } else {
                    match find(it, &id)?.map(|order| order.status) {
                        None => TimedOut::Unknown,
                        Some(Status::Unpaid) => {
                            it.execute(sql::DISARMED, [&id])?;
                            TimedOut::Early
                        }
                        Some(Status::Paid | Status::Cancelled) => TimedOut::Settled,
                    }
                };
                it.prepare_cached(sql::ADD_EVENT)?.execute(params![event, id, outcome.as_str(), evidence, now])?;
                Ok((outcome, false))
            })
            .await
    }

    /// Remembers whether the order's key is in Redis.
    pub async fn armed(&self, id: &str, armed: Armed, now: Millis) -> anyhow::Result<()> {
        let id = id.to_owned();
        self.writer
            .run(move |it| {
                it.prepare_cached(sql::ARMED)?.execute(params![armed.as_str(), now, id])?;
                Ok(())
            })
            .await
    }

    /// Remembers that the order's key may be in Redis.
    pub async fn tried_to_arm(&self, id: &str) -> anyhow::Result<()> {
        let id = id.to_owned();
        self.writer
            .run(move |it| {
                it.prepare_cached(sql::TRIED_TO_ARM)?.execute([&id])?;
                Ok(())
            })
            .await
    }

    /// Unpaid orders whose key may be missing, soonest due first.
    pub async fn to_arm(&self, which: ToArm, limit: u32) -> anyhow::Result<Vec<(String, Millis)>> {
        self.writer
            .run(move |it| {
                let mut statement = it.prepare_cached(sql::TO_ARM)?;
                let ToArm { created_before, unconfirmed_since, not_due_by, overdue_since } = which;
                let values = params![created_before, unconfirmed_since, not_due_by, overdue_since, limit];
                let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    pub async fn order(&self, id: &str) -> anyhow::Result<Option<Order>> {
        let id = id.to_owned();
        self.writer.run(move |it| find(it, &id)).await
    }

    /// At most `limit` orders. `after` is where [`Listing::Id`] goes on from; the others begin at their beginning.
    pub async fn orders(&self, listing: Listing, after: &str, limit: u32) -> anyhow::Result<Vec<Order>> {
        let after = after.to_owned();
        self.writer
            .run(move |it| {
                let statement = it.prepare_cached(match listing {
                    Listing::Newest => sql::ORDERS,
                    Listing::Due => sql::ORDERS_DUE,
                    Listing::Settled => sql::ORDERS_SETTLED,
                    Listing::Id => sql::ORDERS_BY_ID,
                });
                let mut statement = statement?;
                let rows = match listing {
                    Listing::Id => statement.query_map(params![after, limit], Raw::read)?,
                    Listing::Newest | Listing::Due | Listing::Settled => statement.query_map([limit], Raw::read)?,
                };
                let raw: Vec<Raw> = rows.collect::<Result<_, _>>()?;
                raw.into_iter().map(|raw| raw.order(it)).collect()
            })
            .await
    }

    pub async fn counts(&self) -> anyhow::Result<Counts> {
        self.writer
            .run(|it| {
                let mut counts = Counts::default();
                let mut statement = it.prepare_cached(sql::COUNTS)?;
                let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
                for row in rows {
                    let (status, count) = row?;
                    match Status::parse(&status)? {
                        Status::Unpaid => counts.unpaid = count,
                        Status::Paid => counts.paid = count,
                        Status::Cancelled => counts.cancelled = count,
                    }
                }
                Ok(counts)
            })
            .await
    }

    pub async fn stock(&self) -> anyhow::Result<Vec<Product>> {
        self.writer
            .run(|it| {
                let read = |row: &Row| {
                    Ok(Product { sku: row.get(0)?, name: row.get(1)?, available: row.get(2)?, sold: row.get(3)? })
                };
                Ok(it.prepare_cached(sql::STOCK)?.query_map([], read)?.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The webhooks that came: the latest first, or by id those behind `after`.
    pub async fn webhook_events(&self, after: Option<String>, limit: u32) -> anyhow::Result<Vec<WebhookEvent>> {
        self.writer
            .run(move |it| {
                let mut statement = it.prepare_cached(if after.is_some() { sql::EVENTS_BY_ID } else { sql::EVENTS })?;
                let mut rows = match after {
                    Some(after) => statement.query(params![after, limit])?,
                    None => statement.query([limit])?,
                };
                let mut events = Vec::new();
                while let Some(row) = rows.next()? {
                    events.push(WebhookEvent {
                        id: row.get(0)?,
                        order_id: row.get(1)?,
                        outcome: TimedOut::parse(&row.get::<_, String>(2)?)?,
                        evidence: row.get(3)?,
                        received_at: row.get(4)?,
                        deliveries: row.get(5)?,
                    });
                }
                Ok(events)
            })
            .await
    }
}

struct Raw {
    id: String,
    status: String,
    created_at: Millis,
    deadline: Millis,
    armed: String,
    armed_at: Option<Millis>,
    arms: u32,
    settled_at: Option<Millis>,
}

impl Raw {
    fn read(row: &Row) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            status: row.get(1)?,
            created_at: row.get(2)?,
            deadline: row.get(3)?,
            armed: row.get(4)?,
            armed_at: row.get(5)?,
            arms: row.get(6)?,
            settled_at: row.get(7)?,
        })
    }

    fn order(self, it: &Connection) -> anyhow::Result<Order> {
        Ok(Order {
            status: Status::parse(&self.status)?,
            armed: Armed::parse(&self.armed)?,
            lines: lines(it, &self.id)?,
            id: self.id,
            created_at: self.created_at,
            deadline: self.deadline,
            armed_at: self.armed_at,
            arms: self.arms,
            settled_at: self.settled_at,
        })
    }
}

fn find(it: &Connection, id: &str) -> anyhow::Result<Option<Order>> {
    let raw = it.prepare_cached(sql::ORDER)?.query_row([id], Raw::read).optional()?;
    raw.map(|raw| raw.order(it)).transpose()
}

fn lines(it: &Connection, id: &str) -> anyhow::Result<Vec<Line>> {
    let read = |row: &Row| Ok(Line { sku: row.get(0)?, quantity: row.get(1)? });
    Ok(it.prepare_cached(sql::LINES)?.query_map([id], read)?.collect::<Result<_, _>>()?)
}
