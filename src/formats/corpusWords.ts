/** Owns the words of the built-in story corpus: people, animals, places, things and what can be done with them. */

export interface Person {
  readonly name: string
  readonly subject: 'he' | 'she'
  readonly object: 'him' | 'her'
  readonly possessive: 'his' | 'her'
}

const girls = 'Lily Mia Anna Sue Emma Rosa Ella Zoe Nora Ruby Ivy Lucy Maya Jane Clara Tara'
const boys = 'Tom Ben Max Sam Leo Jack Finn Tim Noah Omar Hugo Luke Adam Owen Theo Ravi'

export const PEOPLE: readonly Person[] = [
  ...girls.split(' ').map((name): Person => ({ name, subject: 'she', object: 'her', possessive: 'her' })),
  ...boys.split(' ').map((name): Person => ({ name, subject: 'he', object: 'him', possessive: 'his' })),
]

export const ADULTS = ['mom', 'dad', 'grandma', 'grandpa', 'aunt', 'uncle', 'sister', 'brother'] as const
export const TRAITS = ['little', 'kind', 'brave', 'curious', 'shy', 'clever', 'cheerful', 'quiet'] as const
export const COLORS = ['red', 'blue', 'green', 'yellow', 'pink', 'white', 'purple', 'brown'] as const
export const SIZES = ['big', 'small', 'tiny', 'long', 'round', 'shiny', 'soft', 'old', 'new'] as const
export const GLAD = ['happy', 'proud', 'glad', 'very happy', 'excited'] as const
export const SAD = ['sad', 'worried', 'upset', 'afraid', 'lonely'] as const
export const WEATHER = ['sunny', 'windy', 'warm', 'rainy', 'cold', 'cloudy', 'bright'] as const
export const TIMES = ['One day', 'One morning', 'One afternoon', 'On Sunday', 'After lunch', 'The next day'] as const

export interface Place {
  /** With its preposition, as in "to the park". */
  readonly name: string
  readonly at: 'in' | 'at' | 'on' | 'by'
  readonly hides: readonly string[]
}

export const PLACES: readonly Place[] = [
  { name: 'park', at: 'in', hides: ['under the bench', 'behind the slide', 'near the pond'] },
  { name: 'garden', at: 'in', hides: ['under the roses', 'behind the shed', 'in the tall grass'] },
  { name: 'forest', at: 'in', hides: ['behind a big tree', 'under the leaves', 'inside a log'] },
  { name: 'beach', at: 'on', hides: ['in the sand', 'behind a rock', 'under a towel'] },
  { name: 'farm', at: 'on', hides: ['in the hay', 'behind the barn', 'under the cart'] },
  { name: 'school', at: 'at', hides: ['under the desk', 'behind the door', 'in the box'] },
  { name: 'kitchen', at: 'in', hides: ['under the table', 'behind the jar', 'in the cup'] },
  { name: 'river', at: 'by', hides: ['under the bridge', 'behind the reeds', 'in the mud'] },
  { name: 'market', at: 'at', hides: ['under a stand', 'behind the apples', 'in a basket'] },
  { name: 'lake', at: 'by', hides: ['in the boat', 'under the dock', 'behind the stones'] },
]

export interface Thing {
  readonly name: string
  /** What one does with it, and what one did. */
  readonly use: string
  readonly used: string
}

export const THINGS: readonly Thing[] = [
  { name: 'ball', use: 'throw it', used: 'threw the ball' },
  { name: 'kite', use: 'fly it', used: 'flew the kite' },
  { name: 'book', use: 'read it', used: 'read the book' },
  { name: 'drum', use: 'play it', used: 'played the drum' },
  { name: 'boat', use: 'sail it', used: 'sailed the boat' },
  { name: 'doll', use: 'dress it', used: 'dressed the doll' },
  { name: 'train', use: 'push it', used: 'pushed the train' },
  { name: 'hat', use: 'wear it', used: 'wore the hat' },
  { name: 'bell', use: 'ring it', used: 'rang the bell' },
  { name: 'puzzle', use: 'solve it', used: 'solved the puzzle' },
  { name: 'swing', use: 'ride it', used: 'rode the swing' },
  { name: 'box', use: 'open it', used: 'opened the box' },
]

/** Things that are made and can be cut into pieces. */
export const DISHES = ['cake', 'pie', 'pizza', 'bread', 'pudding', 'tart', 'omelet'] as const
export const FOODS = ['cake', 'bread', 'soup', 'apple', 'cookie', 'pie', 'pear', 'sandwich', 'carrot', 'plum'] as const

export interface Animal {
  readonly name: string
  readonly says: string
  readonly moves: string
}

export const ANIMALS: readonly Animal[] = [
  { name: 'dog', says: 'Woof', moves: 'ran' },
  { name: 'cat', says: 'Meow', moves: 'crept' },
  { name: 'bird', says: 'Tweet', moves: 'flew' },
  { name: 'frog', says: 'Croak', moves: 'jumped' },
  { name: 'duck', says: 'Quack', moves: 'swam' },
  { name: 'rabbit', says: 'Squeak', moves: 'hopped' },
  { name: 'bear', says: 'Grr', moves: 'walked' },
  { name: 'fox', says: 'Yip', moves: 'slipped' },
  { name: 'mouse', says: 'Eek', moves: 'hurried' },
  { name: 'owl', says: 'Hoot', moves: 'glided' },
]

export const LESSONS = [
  'it is good to share',
  'friends help each other',
  'it is fine to ask for help',
  'being kind makes everyone happy',
  'you should never give up',
  'telling the truth is best',
  'taking turns is fun',
] as const
