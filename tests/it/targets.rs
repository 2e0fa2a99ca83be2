//! Targets and profiles against real servers.

use crate::support::world::World;

/// The password of the admin role of this world's shop.
pub(crate) fn admin_password(world: &World) -> String {
    // A world remembers the password of the state's owner first, and this one second.
    world.secrets.all()[1].clone()
}
