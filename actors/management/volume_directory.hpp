#pragma once

#include <deque>
#include <map>
#include <optional>

#include "actors/management/volume.hpp"
#include "actors/node_context.hpp"
#include "actors/supervision/children.hpp"
#include "messages/interfaces.hpp"

namespace varve {

/// The interface, what volumes tell of themselves, and what the actor says to itself.
using volume_directory_self =
  volume_directory_actor::extend<caf::reacts_to<atom::publish, volume_record>, caf::reacts_to<atom::tick>>::extend<
    VARVE_SUPERVISOR_MESSAGES>::extend_with<inspected_actor>;

/// Whether a volume may be made so: errc::invalid_argument with what is wrong. `spec.shard_size` is set by then.
caf::error check_volume(const volume_spec& spec);

/// Knows the records of all volumes, makes new ones, and is the parent of the volume actors. Loads the records from the
/// catalog in pages; until then requests are refused with errc::unavailable.
class volume_directory_state {
public:
  static inline const char* name = "varve.volume-directory";
  explicit volume_directory_state(volume_directory_self::pointer self) : self_(self) {}
  volume_directory_self::behavior_type make_behavior(context_ptr context);

private:
  struct creation {
    volume_spec spec;
    caf::typed_response_promise<volume_record> promise;
    unsigned attempts = 0;
  };

  void load();
  caf::typed_response_promise<volume_record> create(volume_spec& spec);
  void next_creation();
  void commit_creation(uint64_t next, uint64_t revision);
  void creation_done(caf::expected<volume_record> result);
  caf::result<volume_record> get(const std::string& name_or_id) const;
  caf::result<volume_actor> open(volume_id id) const;
  caf::result<std::vector<volume_record>> list() const;
  void published(const volume_record& x);
  void start(volume_id id);
  caf::error check(volume_spec& spec) const;
  actor_facts facts() const;

  volume_directory_self::pointer self_;
  context_ptr context_;
  std::optional<children> children_;
  std::map<volume_id, volume_record> records_;
  std::map<std::string, volume_id> names_;
  bool loaded_ = false;
  std::string load_after_;
  std::deque<creation> creations_;
  bool creating_ = false;
};

volume_directory_self::behavior_type
volume_directory(volume_directory_self::stateful_pointer<volume_directory_state> self, context_ptr context);

} // namespace varve
