// The function of greeter.wit.

export function greet(name) {
  return `Hello, ${name}!`;
}
