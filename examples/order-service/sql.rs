//! Every statement. ANSI types, `$1` placeholders, nothing that `SQLite` alone understands: `PostgreSQL` takes them as
//! they are, and only `database.rs` would change. Times are milliseconds since 1970, as the keys' deadlines are.
//!
//! `SQLite` numbers `$n` by first appearance, so each statement names them first in order.

pub const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS stock (
        sku VARCHAR(64) PRIMARY KEY,
        name VARCHAR(200) NOT NULL,
        available INTEGER NOT NULL CHECK (available >= 0),
        sold INTEGER NOT NULL CHECK (sold >= 0)
    )",
    "CREATE TABLE IF NOT EXISTS orders (
        id VARCHAR(32) PRIMARY KEY,
        status VARCHAR(16) NOT NULL CHECK (status IN ('unpaid', 'paid', 'cancelled')),
        created_at BIGINT NOT NULL,
        deadline BIGINT NOT NULL,
        armed VARCHAR(16) NOT NULL CHECK (armed IN ('no', 'unconfirmed', 'confirmed')),
        armed_at BIGINT,
        arms INTEGER NOT NULL,
        settled_at BIGINT
    )",
    "CREATE INDEX IF NOT EXISTS orders_by_status ON orders (status, deadline)",
    "CREATE INDEX IF NOT EXISTS orders_by_age ON orders (created_at)",
    "CREATE INDEX IF NOT EXISTS orders_by_settling ON orders (settled_at)",
    "CREATE TABLE IF NOT EXISTS order_lines (
        order_id VARCHAR(32) NOT NULL REFERENCES orders (id),
        sku VARCHAR(64) NOT NULL REFERENCES stock (sku),
        quantity INTEGER NOT NULL CHECK (quantity > 0),
        PRIMARY KEY (order_id, sku)
    )",
    "CREATE TABLE IF NOT EXISTS webhook_events (
        id VARCHAR(128) PRIMARY KEY,
        order_id VARCHAR(32) NOT NULL,
        outcome VARCHAR(16) NOT NULL,
        evidence VARCHAR(16),
        received_at BIGINT NOT NULL,
        deliveries INTEGER NOT NULL
    )",
];

pub const ADD_PRODUCT: &str = "INSERT INTO stock (sku, name, available, sold)
    SELECT $1, $2, $3, 0 WHERE NOT EXISTS (SELECT 1 FROM stock WHERE sku = $1)";
pub const STOCK: &str = "SELECT sku, name, available, sold FROM stock ORDER BY sku";
pub const PRODUCT_EXISTS: &str = "SELECT COUNT(*) FROM stock WHERE sku = $1";
/// No row changed: not enough there.
pub const TAKE_STOCK: &str = "UPDATE stock SET available = available - $1, sold = sold + $1
    WHERE sku = $2 AND available >= $1";
pub const PUT_BACK: &str = "UPDATE stock SET available = available + $1, sold = sold - $1 WHERE sku = $2";

pub const ADD_ORDER: &str = "INSERT INTO orders (id, status, created_at, deadline, armed, arms)
    VALUES ($1, 'unpaid', $2, $3, 'no', 0)";
pub const ADD_LINE: &str = "INSERT INTO order_lines (order_id, sku, quantity) VALUES ($1, $2, $3)";
pub const ORDER: &str =
    "SELECT id, status, created_at, deadline, armed, armed_at, arms, settled_at FROM orders WHERE id = $1";
pub const LINES: &str = "SELECT sku, quantity FROM order_lines WHERE order_id = $1 ORDER BY sku";
pub const ORDERS: &str = "SELECT id, status, created_at, deadline, armed, armed_at, arms, settled_at FROM orders
    ORDER BY created_at DESC, id LIMIT $1";
pub const ORDERS_DUE: &str = "SELECT id, status, created_at, deadline, armed, armed_at, arms, settled_at FROM orders
    WHERE status = 'unpaid' ORDER BY deadline, id LIMIT $1";
pub const ORDERS_SETTLED: &str =
    "SELECT id, status, created_at, deadline, armed, armed_at, arms, settled_at FROM orders
    WHERE settled_at IS NOT NULL ORDER BY settled_at DESC, id LIMIT $1";
pub const ORDERS_BY_ID: &str = "SELECT id, status, created_at, deadline, armed, armed_at, arms, settled_at FROM orders
    WHERE id > $1 ORDER BY id LIMIT $2";
pub const COUNTS: &str = "SELECT status, COUNT(*) FROM orders GROUP BY status";

/// These two race, and the row decides: whichever comes second changes nothing.
pub const PAY: &str = "UPDATE orders SET status = 'paid', settled_at = $1
    WHERE id = $2 AND status = 'unpaid' AND deadline > $1";
pub const CANCEL: &str = "UPDATE orders SET status = 'cancelled', settled_at = $1
    WHERE id = $2 AND status = 'unpaid' AND deadline <= $3";

pub const ARMED: &str = "UPDATE orders SET armed = $1, armed_at = $2, arms = arms + 1 WHERE id = $3";
pub const TRIED_TO_ARM: &str = "UPDATE orders SET arms = arms + 1 WHERE id = $1";
pub const DISARMED: &str = "UPDATE orders SET armed = 'no' WHERE id = $1 AND status = 'unpaid'";
/// $1: not armed at all and older than this; $2: not confirmed since, but not when due by $3: the key may just have
/// expired, and would live and expire once more; $4: overdue since, though armed before that.
pub const TO_ARM: &str = "SELECT id, deadline FROM orders WHERE status = 'unpaid' AND (
        (armed = 'no' AND created_at <= $1)
        OR (armed = 'unconfirmed' AND armed_at <= $2 AND deadline > $3)
        OR (deadline <= $4 AND armed_at <= $4)
    ) ORDER BY deadline LIMIT $5";

pub const REPEATED: &str = "UPDATE webhook_events SET deliveries = deliveries + 1 WHERE id = $1";
pub const EVENT: &str = "SELECT outcome FROM webhook_events WHERE id = $1";
pub const ADD_EVENT: &str = "INSERT INTO webhook_events (id, order_id, outcome, evidence, received_at, deliveries)
    VALUES ($1, $2, $3, $4, $5, 1)";
pub const EVENTS: &str = "SELECT id, order_id, outcome, evidence, received_at, deliveries FROM webhook_events
    ORDER BY received_at DESC, id LIMIT $1";
pub const EVENTS_BY_ID: &str = "SELECT id, order_id, outcome, evidence, received_at, deliveries FROM webhook_events
    WHERE id > $1 ORDER BY id LIMIT $2";

#[cfg(test)]
mod tests {
    #[test]
    fn placeholders_first_appear_in_order() {
        let text = include_str!("sql.rs").split("#[cfg(test)]").next().unwrap();
        for statement in text.split("pub const").skip(2) {
            let sql = statement.split_once('=').unwrap().1.split("///").next().unwrap();
            let mut highest = 0;
            for (at, _) in sql.match_indices('$') {
                let number = sql[at + 1..=at + 1].parse::<u32>().unwrap();
                assert!(number <= highest + 1, "{sql}");
                highest = highest.max(number);
            }
        }
    }
}
