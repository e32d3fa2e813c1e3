#include "runtime/catalog/records.hpp"

#include <charconv>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "messages/errors.hpp"

namespace varve {

namespace {

using nlohmann::json;

std::string hex(uint64_t x) {
  char buffer[17];
  std::snprintf(buffer, sizeof buffer, "%016llx", static_cast<unsigned long long>(x));
  return buffer;
}

/// Exactly 16 digits, as `hex` writes them.
bool parse_hex(std::string_view text, uint64_t& out) {
  if (text.size() != 16)
    return false;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  return problem == std::errc{} && end == text.data() + text.size();
}

/// Bytes that are no UTF-8 (they cannot come from a checked name) are replaced rather than thrown at.
std::string dump(const json& x) {
  return x.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// Takes fields out of one object; the first that has the wrong type is remembered.
class reader {
public:
  explicit reader(const std::string& value) : object_(json::parse(value, nullptr, false)) {
    if (!object_.is_object())
      problem_ = "not a JSON object: " + value.substr(0, 64);
  }

  explicit reader(const json& object) : object_(object) {
    if (!object_.is_object())
      problem_ = "not a JSON object: " + dump(object_).substr(0, 64);
  }

  void field(const char* name, uint64_t& out) {
    if (auto* x = find(name); x && x->is_number_unsigned())
      out = x->get<uint64_t>();
    else if (x)
      wrong(name, "a number");
  }
  void field(const char* name, bool& out) {
    if (auto* x = find(name); x && x->is_boolean())
      out = x->get<bool>();
    else if (x)
      wrong(name, "true or false");
  }
  void field(const char* name, std::string& out) {
    if (auto* x = find(name); x && x->is_string())
      out = x->get<std::string>();
    else if (x)
      wrong(name, "a string");
  }
  template <class T, class Tag>
  void field(const char* name, named<T, Tag>& out) {
    uint64_t x = out.value();
    field(name, x);
    out = named<T, Tag>{x};
  }
  /// An enum as its number.
  template <class T>
  void field(const char* name, T& out, uint64_t max) {
    auto x = static_cast<uint64_t>(out);
    field(name, x);
    if (x > max)
      wrong(name, "at most " + std::to_string(max));
    else
      out = static_cast<T>(x);
  }
  /// A list of objects: `each` reads one.
  template <class Each>
  void list(const char* name, Each each) {
    auto* x = find(name);
    if (!x)
      return;
    if (!x->is_array()) {
      wrong(name, "a list");
      return;
    }
    for (const auto& element : *x) {
      reader one{element};
      each(one);
      if (problem_.empty())
        problem_ = one.problem_;
    }
  }
  void must(bool holds, const char* name, const std::string& expected) {
    if (!holds)
      wrong(name, expected);
  }

  caf::error result(const char* what) const {
    if (problem_.empty())
      return {};
    return make_error(errc::bad_format, std::string{what} + ": " + problem_);
  }

private:
  const json* find(const char* name) const {
    if (!object_.is_object())
      return nullptr;
    auto at = object_.find(name);
    return at == object_.end() ? nullptr : &*at;
  }
  void wrong(const char* name, const std::string& expected) {
    if (problem_.empty())
      problem_ = std::string{"'"} + name + "' must be " + expected;
  }

  json object_;
  std::string problem_;
};

} // namespace

namespace key {
std::string volume(volume_id id) {
  return volumes + hex(id.value());
}
std::string volume_name(const std::string& name) {
  return "volume-name/" + name;
}
std::string shards(volume_id id) {
  return "shard/" + hex(id.value()) + "/";
}
std::string shard(shard_id id) {
  return shards(id.volume) + hex(id.index.value());
}
std::string migration(migration_id id) {
  return migrations + hex(id.value());
}
std::string tier(const std::string& name) {
  return tiers + name;
}
std::string former_tier(const std::string& id) {
  return former_tiers + id;
}
std::string node(const std::string& name) {
  return nodes + name;
}
} // namespace key

std::string encode(const volume_record& x) {
  auto attachments = json::array();
  for (const auto& a : x.attachments)
    attachments.push_back({{"holder", a.holder.value()}, {"host", a.host}});
  return dump({{"id", x.id.value()},
               {"name", x.spec.name},
               {"size", x.spec.size_bytes},
               {"shard_size", x.spec.shard_size},
               {"volatile", x.spec.is_volatile},
               {"tier", x.spec.tier},
               {"sensitivity", static_cast<uint64_t>(x.spec.sensitive)},
               {"profile", static_cast<uint64_t>(x.spec.profile)},
               {"created_at", x.created_at},
               {"attachments", attachments},
               {"removing", x.removing}});
}

caf::error decode(const std::string& value, volume_record& out) {
  out = {};
  reader in{value};
  in.field("id", out.id);
  in.field("name", out.spec.name);
  in.field("size", out.spec.size_bytes);
  in.field("shard_size", out.spec.shard_size);
  in.field("volatile", out.spec.is_volatile);
  in.field("tier", out.spec.tier);
  in.field("sensitivity", out.spec.sensitive, 2);
  in.field("profile", out.spec.profile, 2);
  in.field("created_at", out.created_at);
  in.list("attachments", [&](reader& each) {
    each.field("holder", out.attachments.emplace_back().holder);
    each.field("host", out.attachments.back().host);
  });
  in.field("removing", out.removing);
  in.must(out.id.value() != 0, "id", "there");
  const auto size = out.spec.shard_size;
  // Offsets are divided by it everywhere.
  in.must(size >= shard_size_min && size <= shard_size_max && (size & (size - 1)) == 0, "shard_size",
          "a power of two in range");
  return in.result("volume record");
}

std::string encode(const shard_home& x) {
  return dump({{"tier", x.tier}, {"generation", x.of.value()}, {"fence", x.fence.value()}});
}

caf::error decode(const std::string& shard_key, const std::string& value, shard_home& out) {
  out = {};
  constexpr std::string_view prefix = "shard/";
  uint64_t volume = 0, index = 0;
  const std::string_view text{shard_key};
  if (!text.starts_with(prefix) || text.size() != prefix.size() + 33 || text[prefix.size() + 16] != '/' ||
      !parse_hex(text.substr(prefix.size(), 16), volume) || !parse_hex(text.substr(prefix.size() + 17), index))
    return make_error(errc::bad_format, "shard record: not a shard's key: " + shard_key);
  out.id = {volume_id{volume}, shard_index{index}};
  reader in{value};
  in.field("tier", out.tier);
  in.field("generation", out.of);
  in.field("fence", out.fence);
  in.must(out.exists(), "generation", "there");
  in.must(!out.tier.empty(), "tier", "there");
  return in.result("shard record");
}

std::string encode(const migration_record& x) {
  return dump({{"id", x.id.value()},
               {"volume", x.shard.volume.value()},
               {"shard", x.shard.index.value()},
               {"from_tier", x.from_tier},
               {"to_tier", x.to_tier},
               {"from", x.from.value()},
               {"to", x.to.value()},
               {"state", static_cast<uint64_t>(x.state)},
               {"reason", x.reason},
               {"started_at", x.started_at},
               {"ended_at", x.ended_at}});
}

caf::error decode(const std::string& value, migration_record& out) {
  out = {};
  reader in{value};
  in.field("id", out.id);
  in.field("volume", out.shard.volume);
  in.field("shard", out.shard.index);
  in.field("from_tier", out.from_tier);
  in.field("to_tier", out.to_tier);
  in.field("from", out.from);
  in.field("to", out.to);
  in.field("state", out.state, static_cast<uint64_t>(migration_state::aborted));
  in.field("reason", out.reason);
  in.field("started_at", out.started_at);
  in.field("ended_at", out.ended_at);
  in.must(out.id.value() != 0, "id", "there");
  return in.result("migration record");
}

std::string encode(const node_record& x) {
  return dump({{"cordoned", x.cordoned}, {"draining", x.draining}});
}

caf::error decode(const std::string& value, node_record& out) {
  out = {};
  reader in{value};
  in.field("cordoned", out.cordoned);
  in.field("draining", out.draining);
  return in.result("node record");
}

std::string encode(const tier_record& x) {
  return dump({{"id", x.id}, {"name", x.name}});
}

caf::error decode(const std::string& value, tier_record& out) {
  out = {};
  reader in{value};
  in.field("id", out.id);
  in.field("name", out.name);
  in.must(!out.id.empty(), "id", "there");
  in.must(!out.name.empty(), "name", "there");
  return in.result("tier record");
}

std::string encode(uint64_t x) {
  return std::to_string(x);
}

caf::error decode(const std::string& value, uint64_t& out) {
  auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), out);
  if (problem != std::errc{} || end != value.data() + value.size() || value.empty())
    return make_error(errc::bad_format, "not a number: " + value.substr(0, 64));
  return {};
}

} // namespace varve
