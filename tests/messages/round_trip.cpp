#include <boost/test/unit_test.hpp>

#include <type_traits>

#include <caf/actor_system.hpp>
#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>
#include <caf/deep_to_string.hpp>
#include <caf/message.hpp>

#include "messages/all.hpp"
#include "messages/register.hpp"

using namespace varve;

namespace {

/// Gives every field of a message a value of its own, through its inspect.
struct filler {
  using result_type = void;
  uint64_t next = 1;

  template <class... Ts>
  void operator()(Ts&&... xs) {
    (fill(xs), ...);
  }
  void fill(const caf::meta::type_name_t&) {}
  void fill(caf::meta::type_name_t&) {}
  void fill(bool& x) { x = next++ % 2 == 1; }
  void fill(std::string& x) { x = "text " + std::to_string(next++); }
  void fill(caf::timespan& x) { x = caf::timespan{next++}; }
  template <class T>
  void fill(std::vector<T>& x) {
    x.resize(2);
    for (auto& e : x)
      fill(e);
  }
  template <class T>
  void fill(T& x) {
    if constexpr (std::is_enum_v<T>)
      x = static_cast<T>(1);
    else if constexpr (std::is_arithmetic_v<T>)
      x = static_cast<T>(next++);
    else
      inspect(*this, x);
  }
};

/// How many fields inspect names.
struct counter {
  using result_type = size_t;
  template <class... Ts>
  size_t operator()(Ts&&...) {
    return ((std::is_same_v<std::decay_t<Ts>, caf::meta::type_name_t> ? 0 : 1) + ... + 0);
  }
};

struct anything {
  template <class T>
  operator T() const;
};

/// How many fields an aggregate has.
template <class T, class... Fields>
constexpr size_t fields_of() {
  if constexpr (requires { T{Fields{}..., anything{}}; })
    return fields_of<T, Fields..., anything>();
  else
    return sizeof...(Fields);
}

std::vector<char> bytes_of(caf::actor_system& system, const caf::message& x) {
  std::vector<char> result;
  caf::binary_serializer sink{system, result};
  BOOST_REQUIRE(!sink(const_cast<caf::message&>(x)));
  return result;
}

struct round_trip {
  caf::actor_system& system;

  template <class T>
  void operator()(const char* name) {
    BOOST_TEST_CONTEXT(name) {
      T x{};
      filler{}.fill(x);
      if constexpr (std::is_aggregate_v<T>) {
        counter count;
        BOOST_TEST(inspect(count, x) == fields_of<T>(), "inspect forgets a field");
      }
      const auto sent = caf::make_message(x);
      const auto bytes = bytes_of(system, sent);
      caf::message received;
      caf::binary_deserializer source{system, bytes};
      BOOST_REQUIRE(!source(received));
      BOOST_REQUIRE(received.match_elements<T>());
      BOOST_TEST(caf::deep_to_string(received) == caf::deep_to_string(sent));
      BOOST_TEST((bytes_of(system, received) == bytes));
      // The value has something to lose.
      T none{};
      if constexpr (!std::is_enum_v<T>)
        BOOST_TEST(caf::deep_to_string(none) != caf::deep_to_string(x));
    }
  }
};

/// Whether what an interface's messages carry, there and back, can be sent to another node.
struct sendable {
  caf::actor_system& system;

  template <class T>
  bool known() const {
    if constexpr (std::is_void_v<T> || caf::is_atom_constant<T>::value || caf::type_nr<T>::value != 0)
      return true; // CAF's own
    else
      return system.types().make_value(typeid(T)) != nullptr;
  }
  template <class T>
  void type() const {
    BOOST_TEST(known<T>(), typeid(T).name() << " is not registered");
  }
  template <class... In, class... Out>
  void message(caf::typed_mpi<caf::detail::type_list<In...>, caf::output_tuple<Out...>>) const {
    (type<In>(), ...);
    (type<Out>(), ...);
  }
  template <class... Messages>
  void interface(caf::typed_actor<Messages...>*) const {
    (message(Messages{}), ...);
  }
};

struct config : caf::actor_system_config {
  config() {
    set("scheduler.policy", caf::atom("testing"));
    add_messages(*this);
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(every_registered_message_survives_the_wire) {
  config cfg;
  caf::actor_system system{cfg};
  for_each_message_type(round_trip{system});
}

BOOST_AUTO_TEST_CASE(whatever_nodes_say_to_each_other_is_registered) {
  config cfg;
  caf::actor_system system{cfg};
  const sendable check{system};
  BOOST_TEST(!check.known<std::vector<volume_info>>()); // nor is it sent
#define VARVE_INTERFACE(type) check.interface(static_cast<type*>(nullptr));
  VARVE_INTERFACES(VARVE_INTERFACE)
#undef VARVE_INTERFACE
}

BOOST_AUTO_TEST_CASE(an_error_keeps_its_code_and_context_and_prints_its_name) {
  config cfg;
  caf::actor_system system{cfg};
  const auto bytes = bytes_of(system, caf::make_message(make_error(errc::tier_full, "tier fast")));
  caf::message received;
  caf::binary_deserializer source{system, bytes};
  BOOST_REQUIRE(!source(received));
  const auto& x = received.get_as<caf::error>(0);
  BOOST_TEST((code_of(x) == errc::tier_full));
  BOOST_TEST(context_of(x) == "tier fast");
  BOOST_TEST(system.render(x).find("tier_full") != std::string::npos);
}
