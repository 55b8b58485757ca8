//! What is known of the deployment and of who owns the store: the epoch, node states, named texts.

use rusqlite::{OptionalExtension, params};

use super::{
    database::{Database, fact},
    failure::Failure,
};
use crate::{
    model::NodeId,
    store::{Epoch, NodeState},
};

impl Database {
    pub fn take_epoch(&mut self) -> Result<Epoch, Failure> {
        let next = self.figures.epoch + 1;
        self.set_fact(fact::EPOCH, next.cast_signed())?;
        self.figures.epoch = next;
        Ok(Epoch(next))
    }

    pub fn node_states(&self) -> Result<Vec<NodeState>, Failure> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT node, run_id, config_epoch, flushes, slots FROM nodes ORDER BY node")?;
        let mut rows = statement.query([])?;
        let mut states = Vec::new();
        while let Some(row) = rows.next()? {
            let slots: String = row.get(4)?;
            states.push(NodeState {
                node: NodeId::from(row.get::<_, String>(0)?.as_str()),
                run_id: row.get(1)?,
                config_epoch: row.get::<_, i64>(2)?.cast_unsigned(),
                flushes: row.get::<_, i64>(3)?.cast_unsigned(),
                slots: serde_json::from_str(&slots)
                    .map_err(|error| Failure::Damaged(format!("the slots of a node: {error}")))?,
            });
        }
        Ok(states)
    }

    pub fn remember_node(&mut self, epoch: Epoch, state: &NodeState) -> Result<(), Failure> {
        self.fence(epoch)?;
        let slots = serde_json::to_string(&state.slots).map_err(|error| Failure::Damaged(error.to_string()))?;
        self.connection.prepare_cached("INSERT OR REPLACE INTO nodes VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(
            params![
                state.node.as_str(),
                state.run_id,
                state.config_epoch.cast_signed(),
                state.flushes.cast_signed(),
                slots
            ],
        )?;
        Ok(())
    }

    pub fn forget_node(&mut self, epoch: Epoch, node: &NodeId) -> Result<(), Failure> {
        self.fence(epoch)?;
        self.connection.prepare_cached("DELETE FROM nodes WHERE node = ?1")?.execute([node.as_str()])?;
        Ok(())
    }

    pub fn meta(&self, name: &str) -> Result<Option<String>, Failure> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        Ok(statement.query_row([name], |row| row.get(0)).optional()?)
    }

    pub fn set_meta(&mut self, epoch: Epoch, name: &str, value: &str) -> Result<(), Failure> {
        self.fence(epoch)?;
        self.connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute([name, value])?;
        Ok(())
    }
}
