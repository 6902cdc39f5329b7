//! Who is heard next while more waits for the core than it does in one turn.
//!
//! Inputs stand in lines, one for each entity that they are about, and the lines have their turns one
//! after the other. A queue that takes all there is, by however many connections, so makes another one
//! wait for a part of its work and never for all of it. A connection is heard in its order: as long as
//! something of it waits, the rest stands in the same line behind it.

use std::collections::{HashMap, VecDeque};

use peeklock_core::{Command, EntityId};

use super::handle::{Arrived, COMMANDS_PER_INPUT, Input};

/// Commands that are handled in one turn: enough that the store is asked rarely, few enough that nobody
/// waits long for the next one. Large messages count for more.
const COMMANDS_PER_TURN: usize = 256;

/// Octets of a message that take as long to write as a command takes to handle, about.
const OCTETS_PER_COMMAND: usize = 16 * 1024;

/// What a line is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Line {
    Entity(EntityId),
    /// For what names no entity: a receiver that says how much it wants, or opens.
    Caller(u64),
    /// For what neither is about an entity nor comes from a connection.
    Others,
}

impl Line {
    fn of(arrived: &Arrived) -> Self {
        let entity = match &arrived.input {
            Input::Commands(commands) => commands.iter().find_map(Command::entity),
            _ => None,
        };
        let caller = || arrived.caller.map_or(Self::Others, Self::Caller);
        entity.map_or_else(caller, Self::Entity)
    }
}

/// All who wait.
#[derive(Default)]
pub(super) struct Lines {
    waiting: HashMap<Line, VecDeque<Arrived>>,
    /// The lines that somebody stands in, in the order of their turns.
    turns: VecDeque<Line>,
    /// Where a connection stands, and with how many inputs.
    callers: HashMap<u64, (Line, usize)>,
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Turns what has arrived into what is handled now. The rest waits.
    pub(super) fn next(&mut self, arrived: &mut Vec<Arrived>) {
        if self.is_empty() && arrived.iter().map(weight).sum::<usize>() <= COMMANDS_PER_TURN {
            return;
        }
        for arrived in arrived.drain(..) {
            self.add(arrived);
        }
        let mut commands = 0;
        while commands < COMMANDS_PER_TURN
            && let Some(line) = self.turns.pop_front()
        {
            commands += self.take_from(line, arrived);
        }
    }

    /// Everybody, and no order between lines.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Arrived> + use<> {
        std::mem::take(self).waiting.into_values().flatten()
    }

    fn add(&mut self, arrived: Arrived) {
        let mut line = Line::of(&arrived);
        if let Some(caller) = arrived.caller {
            let (stands_in, count) = self.callers.entry(caller).or_insert((line, 0));
            *count += 1;
            line = *stands_in;
        }
        let waiting = self.waiting.entry(line).or_default();
        if waiting.is_empty() {
            self.turns.push_back(line);
        }
        waiting.push_back(arrived);
    }

    /// One turn of a line, which goes to the end when there is more in it. Answers how much that was.
    fn take_from(&mut self, line: Line, into: &mut Vec<Arrived>) -> usize {
        let mut commands = 0;
        let Some(waiting) = self.waiting.get_mut(&line) else { return commands };
        while commands < COMMANDS_PER_INPUT
            && let Some(next) = waiting.pop_front()
        {
            commands += weight(&next);
            if let Some(caller) = next.caller
                && let Some((_, count)) = self.callers.get_mut(&caller)
            {
                *count -= 1;
                if *count == 0 {
                    self.callers.remove(&caller);
                }
            }
            into.push(next);
        }
        if waiting.is_empty() {
            self.waiting.remove(&line);
        } else {
            self.turns.push_back(line);
        }
        commands
    }
}

fn weight(arrived: &Arrived) -> usize {
    match &arrived.input {
        Input::Commands(commands) => commands.iter().map(weight_of).sum(),
        _ => 1,
    }
}

fn weight_of(command: &Command) -> usize {
    let messages = match command {
        Command::Send { messages, .. } | Command::SendTo { messages, .. } => messages.as_slice(),
        Command::Schedule { messages, .. } => messages,
        _ => return 1,
    };
    messages.iter().map(|message| 1 + message.bytes().len() / OCTETS_PER_COMMAND).sum()
}

#[cfg(test)]
mod tests {
    use peeklock_core::{MessageSessionId, Origin, ReceiverId};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::super::handle::Places;
    use super::*;

    /// A connection asks for so much of an entity; `name` tells the input from others.
    fn asks(caller: u64, name: u32, entity: u32, count: usize) -> Arrived {
        let origin = Origin { connection: caller, link: 0, delivery: name };
        let entity = EntityId(entity);
        let session = MessageSessionId::new("s").unwrap();
        let ask = || Command::GetSessionState { origin, entity, session: session.clone() };
        commands(Some(caller), std::iter::repeat_with(ask).take(count).collect())
    }

    fn demand(caller: u64, limit: u64) -> Arrived {
        let receiver = ReceiverId { connection: caller, link: 0 };
        commands(Some(caller), vec![Command::Demand { receiver, limit }])
    }

    fn commands(caller: Option<u64>, commands: Vec<Command>) -> Arrived {
        Arrived { at: None, caller, input: Input::Commands(commands), _places: Places::default() }
    }

    /// Who asked, and the name of the input.
    fn names(arrived: &[Arrived]) -> Vec<(u64, u64)> {
        let name = |arrived: &Arrived| match &arrived.input {
            Input::Commands(commands) => match commands.first() {
                Some(Command::GetSessionState { origin, .. }) => u64::from(origin.delivery),
                Some(Command::Demand { limit, .. }) => *limit,
                other => panic!("{other:?}"),
            },
            _ => panic!("no commands"),
        };
        arrived.iter().map(|arrived| (arrived.caller.unwrap(), name(arrived))).collect()
    }

    #[test]
    fn as_much_as_one_turn_does_is_heard_as_it_came() {
        let mut lines = Lines::default();
        let mut arrived = vec![asks(1, 1, 7, 200), asks(2, 2, 8, 55), demand(1, 3)];
        lines.next(&mut arrived);
        assert_eq!(names(&arrived), [(1, 1), (2, 2), (1, 3)]);
        assert!(lines.is_empty());
    }

    #[test]
    fn who_wants_little_of_another_entity_is_heard_in_the_next_turn() {
        let mut lines = Lines::default();
        let mut arrived: Vec<_> =
            (0..40).flat_map(|caller| (0..4).map(move |name| asks(caller, name, 7, 32))).collect();
        lines.next(&mut arrived);
        assert_eq!(arrived.len(), COMMANDS_PER_TURN / COMMANDS_PER_INPUT);
        let mut arrived = vec![asks(50, 1, 7, 1), asks(51, 2, 8, 1), demand(52, 3)];
        lines.next(&mut arrived);
        let names = names(&arrived);
        assert!(names.contains(&(51, 2)) && names.contains(&(52, 3)), "{names:?}");
        assert!(!names.contains(&(50, 1)), "its own entity's line is long");
        assert!(
            arrived.iter().map(weight).sum::<usize>() <= COMMANDS_PER_TURN + COMMANDS_PER_INPUT
        );
    }

    #[test]
    fn small_inputs_of_one_entity_share_a_turn_of_its_line() {
        let mut lines = Lines::default();
        let mut arrived: Vec<_> = (0..300).map(|caller| asks(caller, 0, 7, 1)).collect();
        arrived.push(asks(300, 0, 8, 1));
        lines.next(&mut arrived);
        assert_eq!(names(&arrived).iter().position(|name| name.0 == 300), Some(32));
    }

    #[test]
    fn whatever_waits_a_connection_is_heard_in_its_order_and_everything_once() {
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut lines = Lines::default();
            let (mut said, mut heard) = (vec![0; 8], vec![0; 8]);
            for _ in 0..100 {
                let mut arrived = Vec::new();
                for _ in 0..random.random_range(0..20) {
                    let caller = random.random_range(0..8_usize);
                    said[caller] += 1;
                    let (by, name) = (caller as u64, said[caller]);
                    let entity = random.random_range(0..4);
                    let count = random.random_range(1..=COMMANDS_PER_INPUT);
                    arrived.push(match entity {
                        0 => demand(by, name.into()),
                        _ => asks(by, name, entity, count),
                    });
                }
                lines.next(&mut arrived);
                for (caller, name) in names(&arrived) {
                    let last = &mut heard[usize::try_from(caller).unwrap()];
                    *last += 1;
                    assert_eq!(u64::from(*last), name, "seed {seed}, connection {caller}");
                }
            }
            let rest: Vec<_> = lines.take_all().collect();
            let all: u32 = heard.iter().sum();
            assert_eq!(all as usize + rest.len(), said.iter().sum::<u32>() as usize);
            assert!(lines.is_empty() && lines.callers.is_empty());
        }
    }
}
