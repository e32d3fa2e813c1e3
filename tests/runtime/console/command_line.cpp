#include "runtime/console/command_line.hpp"

#include <boost/test/unit_test.hpp>

#include "messages/errors.hpp"
#include "runtime/console/arguments.hpp"

using namespace varve;
using namespace varve::console;
using namespace std::chrono_literals;

namespace {

using lines = std::vector<std::vector<std::string>>;

lines split(std::string_view text) {
  std::string problem;
  auto result = split_commands(text, problem);
  BOOST_REQUIRE_MESSAGE(result, problem);
  return *result;
}

std::string problem_of_line(std::string_view text) {
  std::string problem;
  BOOST_TEST(!split_commands(text, problem));
  return problem;
}

command parsed(std::string_view text) {
  std::string problem;
  auto x = parse_command(split(text).at(0), problem);
  BOOST_REQUIRE_MESSAGE(x, problem);
  return *x;
}

std::string problem_of(std::string_view text) {
  std::string problem;
  BOOST_TEST(!parse_command(split(text).at(0), problem).has_value());
  return problem;
}

const actor_message resize{"resize", {{"SIZE", argument_type::size}}, ""};
const actor_message mixed{
  "mixed", {{"VOLUME", argument_type::volume}, {"SHARD", argument_type::number}, {"FORCE", argument_type::flag}}, ""};

std::string refusal(const actor_message& to, const std::vector<std::string>& words) {
  auto x = read_arguments(to, words);
  BOOST_REQUIRE(!x);
  BOOST_TEST((code_of(x.error()) == errc::invalid_argument));
  return context_of(x.error());
}

} // namespace

BOOST_AUTO_TEST_SUITE(a_command_line)

BOOST_AUTO_TEST_CASE(is_cut_into_commands_and_words) {
  BOOST_TEST((split("tree; inspect /n/a") == lines{{"tree"}, {"inspect", "/n/a"}}));
  BOOST_TEST((split(" ;; tree ;") == lines{{"tree"}}));
  BOOST_TEST((split("") == lines{}));
  BOOST_TEST((split("send a b 'two words' \"and; more\" c\\ d '' # no word") ==
              lines{{"send", "a", "b", "two words", "and; more", "c d", ""}}));
  BOOST_TEST((split("a\"b\\\"c\"'d\\e'f#g") == lines{{"ab\"cd\\ef#g"}}));
}

BOOST_AUTO_TEST_CASE(says_where_it_is_not_finished) {
  BOOST_TEST(problem_of_line("tree \"a b") == "the quote at column 6 is not closed");
  BOOST_TEST(problem_of_line("tree \\") == "nothing follows the backslash at column 6");
}

BOOST_AUTO_TEST_CASE(reads_back_what_was_quoted) {
  for (const std::string word : {"a", "two words", "", "a;b", "#", "it's", "\"", "\\"})
    BOOST_TEST((split(quoted(word)) == lines{{word}}));
}

BOOST_AUTO_TEST_CASE(that_is_being_typed_tells_the_last_word_and_where_it_begins) {
  auto x = split_unfinished("tree; inspect /n/a");
  BOOST_TEST((x.words == std::vector<std::string>{"inspect", "/n/a"}));
  BOOST_TEST(x.from == 14u);
  x = split_unfinished("send /n ");
  BOOST_TEST((x.words == std::vector<std::string>{"send", "/n", ""}));
  BOOST_TEST(x.from == 8u);
  x = split_unfinished("");
  BOOST_TEST((x.words == std::vector<std::string>{""}));
  x = split_unfinished("inspect \"a b");
  BOOST_TEST((x.words == std::vector<std::string>{"inspect", "a b"}));
  BOOST_TEST(x.from == 8u);
}

BOOST_AUTO_TEST_CASE(becomes_a_command) {
  BOOST_TEST((parsed("tree").what == verb::tree));
  BOOST_TEST(parsed("tree /n").path == "/n");
  BOOST_TEST((parsed("exit").what == verb::quit));
  const auto x = parsed("send /n/m cancel 3 four");
  BOOST_TEST(x.path == "/n/m");
  BOOST_TEST(x.message == "cancel");
  BOOST_TEST((x.arguments == std::vector<std::string>{"3", "four"}));
}

BOOST_AUTO_TEST_CASE(tells_how_often_to_watch) {
  auto x = parsed("watch tree");
  BOOST_TEST(x.count == 0u);
  BOOST_TEST((x.every == 1s));
  for (const auto* text : {"watch tree 250ms --count 3", "watch --count 3 tree 250ms", "watch tree --count=3 250ms"}) {
    x = parsed(text);
    BOOST_TEST(x.path == "tree");
    BOOST_TEST(x.count == 3u);
    BOOST_TEST((x.every == 250ms));
  }
  BOOST_TEST(problem_of("watch tree --count 0") == "--count takes a whole number from 1 on, not \"0\"");
  BOOST_TEST(problem_of("watch tree --count") == "--count takes a whole number from 1 on, not \"\"");
  BOOST_TEST(problem_of("watch tree 1us") == "EVERY is 1us; expected 100ms to 1h");
  BOOST_TEST(problem_of("watch tree soon") != "");
}

BOOST_AUTO_TEST_CASE(that_is_wrong_says_what_was_expected) {
  BOOST_TEST(problem_of("inspct /n") == "no command \"inspct\"; did you mean \"inspect\"?");
  BOOST_TEST(problem_of("qqqqqq") == "no command \"qqqqqq\"; try: help");
  BOOST_TEST(problem_of("inspect") == "expected: inspect PATH");
  BOOST_TEST(problem_of("kill a b") == "expected: kill PATH");
  BOOST_TEST(problem_of("send a") == "expected: send PATH MESSAGE [ARGUMENT]...");
  BOOST_TEST(problem_of("quit now") == "expected: quit");
  BOOST_TEST(problem_of("watch") == "expected: watch PATH|tree|migrations|events [EVERY] [--count N]");
}

BOOST_AUTO_TEST_CASE(may_leave_the_node_out_of_a_path) {
  BOOST_TEST(resolve("n", "storage/fast") == "/n/storage/fast");
  BOOST_TEST(resolve("n", "/other/storage") == "/other/storage");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(typed_arguments)

BOOST_AUTO_TEST_CASE(become_values_of_their_types) {
  auto x = read_arguments(mixed, {"vm1", "7", "yes"});
  BOOST_REQUIRE(x);
  BOOST_TEST((*x == std::vector<argument_value>{std::string{"vm1"}, uint64_t{7}, true}));
  x = read_arguments(resize, {"20GiB"});
  BOOST_REQUIRE(x);
  BOOST_TEST((*x == std::vector<argument_value>{uint64_t{20} << 30}));
  BOOST_TEST(usage_of(mixed) == "mixed VOLUME SHARD FORCE");
}

BOOST_AUTO_TEST_CASE(of_another_type_are_refused_with_what_was_expected) {
  BOOST_TEST(refusal(mixed, {"vm1", "abc", "no"}) ==
             "argument 2 of \"mixed\" (SHARD) is \"abc\"; expected a whole number, such as 42");
  BOOST_TEST(refusal(mixed, {"vm1", "-1", "no"}).find("expected a whole number") != std::string::npos);
  BOOST_TEST(refusal(mixed, {"vm1", "99999999999999999999", "no"}).find("expected a whole") != std::string::npos);
  BOOST_TEST(refusal(mixed, {"vm1", "1", "maybe"}).find("(FORCE) is \"maybe\"; expected true or false") !=
             std::string::npos);
  BOOST_TEST(refusal(mixed, {"", "1", "no"}).find("expected a volume") != std::string::npos);
  BOOST_TEST(refusal(resize, {"big"}).find("(SIZE) is \"big\"; expected a size in bytes, such as 20GiB") !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(of_another_number_are_refused_with_the_usage) {
  BOOST_TEST(refusal(resize, {}) == "\"resize\" got 0 arguments; expected: resize SIZE");
  BOOST_TEST(refusal(resize, {"1", "2"}) == "\"resize\" got 2 arguments; expected: resize SIZE");
}

BOOST_AUTO_TEST_SUITE_END()
