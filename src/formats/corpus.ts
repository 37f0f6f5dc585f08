/** Owns the built-in corpus: a seeded grammar of little stories in plain ASCII English, after the manner of TinyStories (Eldan & Li 2023). */
import * as words from './corpusWords.ts'
import type { Animal, Person, Place, Thing } from './corpusWords.ts'

/** Uniform draws from a seed: Mulberry32 (Ettinger), 32 bits of state, exact in every JavaScript engine. */
class Draw {
  private state: number

  constructor(seed: number) {
    this.state = seed | 0
  }

  below(n: number): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000) * n)
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }

  /** One that differs from `taken`. */
  other<T>(choices: readonly T[], taken: T): T {
    for (;;) {
      const drawn = this.of(choices)
      if (drawn !== taken) return drawn
    }
  }
}

/** Who and what one story is about; every sentence draws on the same cast, which keeps it consistent. */
interface Cast {
  readonly hero: Person
  readonly friend: Person
  readonly adult: string
  readonly animal: Animal
  readonly place: Place
  readonly thing: Thing
  /** The thing with its adjective, as in "red kite". */
  readonly object: string
  readonly food: string
  readonly trait: string
  readonly hide: string
}

const capital = (text: string) => text[0]!.toUpperCase() + text.slice(1)
const an = (noun: string) => `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`
const where = (place: Place) => `${place.at} the ${place.name}`

function castOf(draw: Draw): Cast {
  const hero = draw.of(words.PEOPLE)
  const place = draw.of(words.PLACES)
  const thing = draw.of(words.THINGS)
  return {
    hero,
    friend: draw.other(words.PEOPLE, hero),
    adult: draw.of(words.ADULTS),
    animal: draw.of(words.ANIMALS),
    place,
    thing,
    object: `${draw.of(draw.below(2) ? words.COLORS : words.SIZES)} ${thing.name}`,
    food: draw.of(words.FOODS),
    trait: draw.of(words.TRAITS),
    hide: draw.of(place.hides),
  }
}

function opening(draw: Draw, { hero, trait, object, thing, animal }: Cast): string {
  const child = hero.subject === 'she' ? 'girl' : 'boy'
  return draw.of([
    `Once upon a time, there was ${an(trait)} ${child} named ${hero.name}. ${capital(hero.subject)} had ${an(object)} and loved to ${thing.use}.`,
    `There once was ${an(trait)} ${child} called ${hero.name}. ${hero.name} had a pet ${animal.name} and ${an(object)}.`,
    `${hero.name} was ${an(trait)} ${child}. ${capital(hero.possessive)} best toy was ${an(object)}.`,
    `${hero.name} got ${an(object)} for ${hero.possessive} birthday. ${capital(hero.subject)} wanted to ${thing.use} every day.`,
  ])
}

function goingOut(draw: Draw, { hero, place, adult, object }: Cast): string {
  return draw.of([
    `${draw.of(words.TIMES)}, it was ${draw.of(words.WEATHER)} and ${hero.name} went to the ${place.name} with ${hero.possessive} ${adult}.`,
    `${draw.of(words.TIMES)}, ${hero.name} took the ${object} to the ${place.name}.`,
    `"Can we go to the ${place.name}?" asked ${hero.name}. "Yes, it is ${draw.of(words.WEATHER)} today," said ${hero.possessive} ${adult}.`,
  ])
}

/** The object gets lost and is found where it was hidden. */
function lost(draw: Draw, { hero, friend, object, place, hide, animal, thing }: Cast): string {
  const finder = draw.below(2)
  return [
    draw.of([
      `But ${where(place)}, the ${object} was gone!`,
      `Then ${hero.name} could not find the ${object}.`,
      `When ${hero.subject} looked around, the ${object} was not there.`,
    ]),
    `${hero.name} was ${draw.of(words.SAD)}.`,
    draw.of([
      `"Where is my ${thing.name}?" ${hero.subject} cried.`,
      `"I lost my ${thing.name}," ${hero.subject} said.`,
    ]),
    finder
      ? `${friend.name} came to help. ${capital(friend.subject)} looked ${hide}. "Here it is!" said ${friend.name}.`
      : `A ${animal.name} ${animal.moves} by. "${animal.says}!" said the ${animal.name}, and it looked ${hide}. The ${object} was there!`,
    finder
      ? `"Thank you, ${friend.name}!" said ${hero.name}, and they ${thing.used} together.`
      : `"Thank you, little ${animal.name}!" said ${hero.name}, and ${hero.subject} ${thing.used} again.`,
  ].join(' ')
}

/** Two children want one thing and learn to take turns. */
function sharing(draw: Draw, { hero, friend, object, thing, adult, place }: Cast): string {
  return [
    `${capital(where(place))}, ${hero.name} met ${friend.name}.`,
    `${friend.name} saw the ${object}. "Can I ${thing.use}?" asked ${friend.name}.`,
    draw.of([
      `"No, it is mine!" said ${hero.name}.`,
      `${hero.name} held the ${object} tight and shook ${hero.possessive} head.`,
    ]),
    `${friend.name} was ${draw.of(words.SAD)}.`,
    `"You can take turns," said ${hero.name}'s ${adult}.`,
    `${hero.name} thought about it. "You can go first," ${hero.subject} said.`,
    `${friend.name} smiled and ${thing.used}. Then ${hero.name} ${thing.used} too.`,
  ].join(' ')
}

/** A hungry animal is fed and becomes a friend. */
function feeding(draw: Draw, { hero, animal, food, place, hide }: Cast): string {
  return [
    `${capital(where(place))}, ${hero.name} heard a sound. "${animal.says}! ${animal.says}!"`,
    `It was ${an(draw.of(words.SIZES))} ${animal.name} ${hide}.`,
    draw.of([`The ${animal.name} looked hungry.`, `The ${animal.name} was cold and hungry.`]),
    `${hero.name} had ${an(food)}. "Do you want some ${food}?" ${hero.subject} asked.`,
    `The ${animal.name} ate all of the ${food}. "${animal.says}!" it said.`,
    draw.of([
      `From that day on, ${hero.name} and the ${animal.name} were friends.`,
      `The ${animal.name} ${animal.moves} home with ${hero.object}.`,
    ]),
  ].join(' ')
}

/** The object breaks, the hero owns up, an adult mends it. */
function broken(draw: Draw, { hero, friend, object, thing, adult }: Cast): string {
  return [
    `${hero.name} ${thing.used} too hard. Crack! The ${object} broke.`,
    draw.of([
      `"Oh no!" said ${friend.name}. "What will your ${adult} say?"`,
      `${hero.name} wanted to hide it, but that was not right.`,
    ]),
    `${hero.name} was ${draw.of(words.SAD)}. "I broke the ${thing.name}. I am sorry," ${hero.subject} told ${hero.possessive} ${adult}.`,
    `"Thank you for telling me," said ${hero.possessive} ${adult}. "We can fix it."`,
    `They worked ${draw.of(['all day', 'for an hour', 'until dinner'])}, and soon the ${thing.name} was as good as new.`,
  ].join(' ')
}

/** Something is baked and counted out. */
function baking(draw: Draw, { hero, friend, adult }: Cast): string {
  const food = draw.of(words.DISHES)
  const [two, three] = draw.of([
    ['two', 'three'],
    ['three', 'four'],
    ['four', 'five'],
    ['five', 'six'],
  ] as const)
  return [
    `${hero.name} and ${hero.possessive} ${adult} wanted to make ${an(food)}.`,
    `They mixed and mixed. "Now we wait," said ${hero.possessive} ${adult}.`,
    `${hero.name} cut the ${food} into ${two} pieces. Then ${friend.name} came in.`,
    `"We need one more piece," said ${hero.name}. Now there were ${three} pieces.`,
    draw.of([`The ${food} was warm and sweet.`, `"This ${food} is so good!" said ${friend.name}.`]),
  ].join(' ')
}

const PLOTS = [lost, sharing, feeding, broken, baking] as const

function ending(draw: Draw, { hero, friend, adult }: Cast): string {
  return draw.of([
    `${hero.name} was ${draw.of(words.GLAD)}. The end.`,
    `${hero.name} learned that ${draw.of(words.LESSONS)}.`,
    `${hero.name} went home and told ${hero.possessive} ${adult} all about it. "I am ${draw.of(words.GLAD)}," ${hero.subject} said.`,
    `${hero.name} and ${friend.name} were ${draw.of(words.GLAD)}. They knew that ${draw.of(words.LESSONS)}.`,
    `That night, ${hero.name} slept well. The end.`,
  ])
}

/**
 * Stories of one to three paragraphs, a blank line between two stories, cut at exactly `bytes` bytes (a character is a
 * byte). The same seed gives the same text on every machine, and a longer text begins with the shorter one.
 */
export function generateCorpus(seed: number, bytes: number): string {
  const draw = new Draw(seed)
  const stories: string[] = []
  let length = 0
  while (length < bytes) {
    const cast = castOf(draw)
    const plot = draw.of(PLOTS)
    const story = `${opening(draw, cast)} ${goingOut(draw, cast)}\n${plot(draw, cast)}\n${ending(draw, cast)}\n\n`
    stories.push(story)
    length += story.length
  }
  return stories.join('').slice(0, bytes)
}
