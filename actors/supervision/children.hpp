#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <caf/actor_addr.hpp>
#include <caf/actor_cast.hpp>
#include <caf/replies_to.hpp>
#include <caf/scheduled_actor.hpp>
#include <caf/system_messages.hpp>

#include "actors/node_context.hpp"
#include "actors/supervision/restart_policy.hpp"
#include "messages/atoms.hpp"
#include "messages/console.hpp"

namespace varve {

/// One child: where it stands in the directory, what it is, how it is made.
struct child_spec {
  std::string path;
  /// Its run-time name: "varve.tier".
  std::string type;
  /// Makes it; must not wait. Called again for each restart.
  std::function<caf::strong_actor_ptr()> spawn;
  /// How long it may take to stop before it is killed; 0: options.stop_grace. A supervisor needs more than its
  /// children.
  caf::timespan stop_grace{0};
};

/// What an actor must add to its interface to keep `children`: X::extend<VARVE_SUPERVISOR_MESSAGES> and the two lines
///   [this](atom::start, const std::string& path) { children_.on_start(path); },
///   [this](atom::stop, uint64_t round) { children_.on_grace_over(round); },
/// A supervisor says these only to itself.
#define VARVE_SUPERVISOR_MESSAGES                                                                                      \
  ::caf::reacts_to<::varve::atom::start, std::string>, ::caf::reacts_to<::varve::atom::stop, uint64_t>

/// The table of a supervisor's children: starts them, puts them into the directory and the tree, starts them again one
/// for one, and stops them in the reverse order of their start. Installs the actor's down and exit handlers:
///   - DOWN with reason normal or user_shutdown: forgotten. Any other: restarted by the policy; when that is exhausted
///   the
///     supervisor quits with the reason, and its own parent decides.
///   - an exit message (user_shutdown from the parent): children stop, latest first, each with `stop_grace` and then a
///     kill; then the supervisor quits with the reason. While stopping nothing is restarted.
/// However the supervisor itself ends, also by kill, living children are killed with it: the next supervisor starts its
/// own.
class children {
public:
  /// `self` owns this object in its state. `path` is the supervisor's own.
  children(caf::scheduled_actor* self, context_ptr context, std::string path);
  children(const children&) = delete;
  children& operator=(const children&) = delete;

  /// Starts a child now. One of that path that lives: nothing.
  void start(child_spec spec);

  /// The living child of that path, or an invalid handle.
  template <class Handle>
  Handle get(const std::string& path) const {
    auto at = rows_.find(path);
    return at == rows_.end() ? Handle{} : caf::actor_cast<Handle>(at->second.actor);
  }

  bool contains(const std::string& path) const { return rows_.count(path) != 0; }
  size_t size() const { return rows_.size(); }
  bool stopping() const { return stopping_; }
  /// How many children there are, how many wait for their restart, and how near the child that died most often is to
  /// ending the supervisor.
  actor_facts facts() const;

  /// Ends one child in an orderly way (exit message user_shutdown); it is not restarted.
  void stop_one(const std::string& path);

  /// Ends all, latest first; then calls `done` (once; an earlier one waiting is called too).
  void stop_all(std::function<void()> done);

  /// What happens with a death, beside the restart (may be empty): path, reason. Called before the restart is planned.
  std::function<void(const std::string& path, const caf::error& reason)> on_death;
  /// Does its own part of an orderly stop before the children are stopped (may be empty): calls what it is given when
  /// done.
  std::function<void(std::function<void()>)> before_stop;

  // Told by the actor's behaviour.
  void on_start(const std::string& path);
  void on_grace_over(uint64_t round);

private:
  struct row {
    child_spec spec;
    caf::strong_actor_ptr actor;
    restart_policy policy;
    /// For its restart.
    bool waiting = false;
    /// Told to stop, and not to be restarted.
    bool leaving = false;
  };

  /// What must be ended with the supervisor, whatever its end: outlives the state, in a functor attached to the actor.
  struct living {
    std::map<std::string, caf::strong_actor_ptr> actors;
  };

  void on_down(const caf::down_msg& x);
  void on_exit(const caf::exit_msg& x);
  void spawn(row& x);
  void stop_next();
  void send_self(caf::timespan delay, caf::message content);

  caf::scheduled_actor* self_;
  context_ptr context_;
  std::string path_;
  std::map<std::string, row> rows_;
  std::map<caf::actor_addr, std::string> by_actor_;
  /// In the order of first starts.
  std::deque<std::string> order_;
  std::shared_ptr<living> living_;
  uint64_t seed_;
  bool stopping_ = false;
  uint64_t stop_round_ = 0;
  std::vector<std::function<void()>> stopped_;
};

/// Whether a child that ended so is done, rather than dead.
bool is_orderly(const caf::error& reason);

} // namespace varve
