#pragma once

#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "actors/management/shard_map.hpp"
#include "actors/node_context.hpp"
#include "messages/interfaces.hpp"

namespace varve {

/// Told of each change of a volume's record (its directory).
using volume_watcher_actor = caf::typed_actor<caf::reacts_to<atom::publish, volume_record>>;

/// What whoever clears up after lost migrations asks a volume, on its own node: the homes of these shards, of those
/// that exist, in order. Waits until the volume is loaded; errc::unavailable when too many wait.
using volume_homes_actor =
  caf::typed_actor<caf::replies_to<atom::locate, std::vector<shard_index>>::with<std::vector<shard_home>>>;

/// The interface, and what the actor says to itself: tick loads the next page or removes the next shards; activate
/// tries the creation of a shard again.
using volume_self =
  volume_actor::extend<caf::reacts_to<atom::tick>, caf::reacts_to<atom::activate, shard_index, uint64_t>>::extend_with<
    volume_homes_actor>::extend_with<inspected_actor>;

/// Owns the record and the shard map of one volume. Loads both from the catalog, in pages; until then requests wait.
/// Every change is in the catalog before it is answered; each commit compares the revision that this actor knows, so
/// that one that was replaced and still runs cannot overwrite its successor.
class volume_state {
public:
  static inline const char* name = "varve.volume";
  explicit volume_state(volume_self::pointer self) : self_(self) {}
  volume_self::behavior_type make_behavior(context_ptr context, volume_id id, volume_watcher_actor watcher);

private:
  /// One shard on its way into existence: place, make on the tier, commit.
  struct creation {
    /// Counts steps: an answer to an older one is ignored.
    uint64_t step = 0;
    unsigned attempts = 0;
    shard_home home;
    std::vector<caf::typed_response_promise<shard_home>> waiting;
  };

  void get(caf::typed_response_promise<volume_info> promise);
  void locate(shard_index first, uint64_t count, caf::typed_response_promise<shard_map_part> promise);
  void create(shard_index index, caf::typed_response_promise<shard_home> promise);
  void commit(migration_record record, caf::typed_response_promise<migration_record> promise);
  void resize(uint64_t size_bytes, caf::typed_response_promise<volume_record> promise);
  void attach(const volume_attachment& to, bool shared, caf::typed_response_promise<volume_record> promise);
  void detach(holder_id holder, caf::typed_response_promise<volume_record> promise);
  void remove(caf::typed_response_promise<volume_record> promise);

  // Creation, step by step; each finds its creation by index and step.
  void place(shard_index index);
  void make(shard_index index, std::string tier);
  void record(shard_index index);
  void created(shard_index index, uint64_t revision);
  void create_failed(shard_index index, const caf::error& why);
  void create_again(shard_index index, caf::timespan after);
  creation* find_creation(shard_index index, uint64_t step);

  /// Changes the record: one at a time, in the order asked; errc::conflict ends the actor (it has been replaced).
  void change_record(std::function<caf::error(volume_record&)> change, std::vector<catalog_change> also,
                     caf::typed_response_promise<volume_record> promise);
  void next_record_change();

  void load();
  void loaded(const catalog_page& page);
  void remove_some();
  void removed(shard_index index, const caf::error& e);
  void erase_removed();
  void removal_retry(const caf::error& why);

  /// Ends with an error, since this actor and the catalog may disagree: the next life reads what the catalog holds.
  void start_over(const caf::error& why);
  /// Sends a batch; exactly one of the two is called.
  void commit_batch(catalog_batch batch, std::function<void(uint64_t)> done,
                    std::function<void(const caf::error&)> failed);
  /// Runs `f` once the map is loaded, or answers errc::unavailable when too many wait.
  template <class T>
  caf::typed_response_promise<T> when_loaded(std::function<void(caf::typed_response_promise<T>)> f);
  uint64_t shards() const;
  actor_facts facts() const;

  volume_self::pointer self_;
  context_ptr context_;
  volume_watcher_actor watcher_;
  volume_id id_;
  volume_record record_;
  uint64_t record_revision_ = 0;
  shard_map map_;
  bool record_loaded_ = false;
  bool loaded_ = false;
  std::string load_after_;
  unsigned load_attempts_ = 0;
  std::deque<std::function<void()>> waiting_;
  std::map<shard_index, creation> creations_;
  uint64_t steps_ = 0;
  struct record_change {
    std::function<caf::error(volume_record&)> change;
    std::vector<catalog_change> also;
    caf::typed_response_promise<volume_record> promise;
  };
  std::deque<record_change> record_changes_;
  bool changing_record_ = false;
  // Removal in the background.
  bool removing_ = false;
  std::vector<shard_home> removal_batch_;
  std::vector<catalog_change> removal_erase_;
  size_t removal_open_ = 0;
  bool removal_failed_ = false;
};

volume_self::behavior_type volume(volume_self::stateful_pointer<volume_state> self, context_ptr context, volume_id id,
                                  volume_watcher_actor watcher);

} // namespace varve
