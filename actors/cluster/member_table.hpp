#pragma once

#include <string>
#include <vector>

#include <caf/error.hpp>

#include "messages/cluster.hpp"
#include "runtime/config/cluster_config.hpp"

namespace varve {

/// Which nodes live, by what is heard of them: up → suspect → down by silence, up again with the next word. No actor
/// and no clock. Times are of one monotonic clock.
class member_table {
public:
  struct change {
    std::string node;
    member_state from, to;
    /// It joined as another life of its process than the last one that was heard.
    bool another_life = false;
  };

  explicit member_table(const cluster_config& cluster);

  /// A node says that it lives. errc::unsupported, errc::not_found, errc::conflict: nothing has changed.
  caf::error hear(const node_announcement& x, boot_time now, std::vector<change>& changes);

  /// Time has passed.
  void look(boot_time now, std::vector<change>& changes);

  /// When `look` may find something by the passing of time alone; boot_time::max(): never.
  boot_time next_look() const;

  std::vector<member_info> list(boot_time now) const;

private:
  struct row {
    member_info info;
    boot_time heard{0};
  };

  void turn(row& x, member_state to, bool another_life, std::vector<change>& changes);

  std::string cluster_;
  boot_time suspect_after_, down_after_;
  std::vector<row> rows_; // as the configuration has them
};

} // namespace varve
