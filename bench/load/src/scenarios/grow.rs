//! How costs grow: with the number of connections, of rooms, and with what a message holds.

use super::{MEMBERS, Run};
use crate::{
    Result,
    broadcast::Join,
    echo::Shape,
    net::Net,
    results::Plot,
    server::{Kind, Server, compresses},
};

pub(super) fn connections(run: &mut Run<'_>) -> Result<()> {
    for count in run.settings.growth {
        run.restart()?;
        let start = run.resident_at_start()?;
        let connect = run.connect(count)?;
        let full = run.resident(Net::quiet)?;
        let all = run.broadcast("broadcast", count, 1)?;
        run.point(
            Plot::Idle,
            count,
            full.saturating_sub(start) as f64 / count as f64,
        );
        run.point(Plot::Connect, count, connect.value);
        run.point(Plot::Broadcast, count, all.value);
        if run.kind.has_rooms() {
            run.join_members(MEMBERS)?;
            let room = run.broadcast("room", MEMBERS, 1)?;
            run.point(Plot::Room, count, room.value);
        }
    }
    Ok(())
}

pub(super) fn rooms(run: &mut Run<'_>) -> Result<()> {
    const SOCKETS: usize = 1000;
    run.open(SOCKETS)?;
    run.join_members(MEMBERS)?;
    let start = run.resident(Net::quiet)?;
    let mut rooms = 1;
    let room = run.broadcast("room", MEMBERS, 1)?;
    run.point(Plot::RoomsBroadcast, rooms, room.value);
    for more in run.settings.rooms {
        let mut todo = vec![Vec::new(); SOCKETS];
        for room in rooms..more {
            todo[room % SOCKETS].push(format!("room-{room}"));
        }
        let ((), cost) = run.measured(|net| Join::run(net, todo))?;
        let full = run.resident(Net::quiet)?;
        let room = run.broadcast("room", MEMBERS, 1)?;
        run.point(
            Plot::Join,
            more,
            cost.server.as_secs_f64() * 1e6 / (more - rooms) as f64,
        );
        run.point(
            Plot::RoomMemory,
            more,
            full.saturating_sub(start) as f64 / more as f64,
        );
        run.point(Plot::RoomsBroadcast, more, room.value);
        rooms = more;
    }
    Ok(())
}

pub(super) fn payload(run: &mut Run<'_>) -> Result<()> {
    const CONNECTIONS: usize = 10;
    // Stock limits on a message: ours and Node's 1,000,000 bytes, socketioxide's 100,000.
    let limit = if run.kind == Kind::Socketioxide {
        100_000
    } else {
        1_000_000
    };
    for size in [64, 1 << 10, 8 << 10, 64 << 10, 256 << 10, 960 << 10] {
        if size < limit {
            run.restart()?;
            run.open(CONNECTIONS)?;
            let sample = run.echo(Shape::Text, CONNECTIONS, 1, size)?;
            run.point(Plot::Payload, size, sample.value);
        }
    }
    Ok(())
}

impl Run<'_> {
    /// A fresh server and no connections.
    fn restart(&mut self) -> Result<()> {
        self.server = Server::start(self.kind, self.name)?;
        self.net = Net::new(self.server.address)?.offering(compresses(self.name));
        Ok(())
    }
}
