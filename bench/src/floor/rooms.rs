//! The rooms of a floor: which connections are in which room.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// All rooms. `M` reaches a connection.
pub struct Rooms<M> {
    members: RefCell<HashMap<String, Room<M>>>,
}

/// The members of one room.
pub type Room<M> = Rc<RefCell<Vec<Rc<M>>>>;

impl<M> Default for Rooms<M> {
    fn default() -> Self {
        Self { members: RefCell::default() }
    }
}

impl<M> Rooms<M> {
    pub fn join(&self, room: &str, member: &Rc<M>) -> Room<M> {
        let room = self.members.borrow_mut().entry(room.to_owned()).or_default().clone();
        room.borrow_mut().push(member.clone());
        room
    }

    pub fn leave(&self, name: &str, room: &Room<M>, member: &Rc<M>) {
        room.borrow_mut().retain(|other| !Rc::ptr_eq(other, member));
        if room.borrow().is_empty() {
            self.members.borrow_mut().remove(name);
        }
    }
}
